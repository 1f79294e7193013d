"""`python -m drawn`: drawn bins to look at, or as a folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from drawn.bins import draw_bins
from pipeline.source.folder import FolderSource


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "drawn", *words], capture_output=True, text=True, check=False)


def test_a_folder_of_drawn_bins_is_a_source(tmp_path: Path) -> None:
    assert command("--folder", str(tmp_path), "--count", "5", "--seed", "8").returncode == 0
    files = dict(FolderSource.open(tmp_path).files())
    for drawn in draw_bins(5, seed=8):
        assert files[f"metadata/{drawn.image_id}.json"] == drawn.metadata
        assert files[f"bin-images/{drawn.image_id}.jpg"] == drawn.jpeg


def test_a_contact_sheet_shows_every_bin(tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    assert command("--sheet", str(sheet), "--count", "7").returncode == 0
    image = Image.open(sheet)
    assert image.format == "PNG"
    tile = image.crop((0, image.height // 2, image.width // 6, image.height))  # the seventh bin
    assert len(tile.getcolors(1 << 20) or []) > 500


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "say what to write"),
        (["--sheet", "sheet.foo"], "ends in .png or .jpg"),
        (["--sheet", "sheet.png", "--count", "0"], "--count begins at 1"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], sentence: str) -> None:
    ended = command(*words)
    assert ended.returncode == 2
    assert sentence in ended.stderr
