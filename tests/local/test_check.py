"""`make check` says before a run what a folder holds, what is left out and why, and whether it is enough."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from components.core.errors import UserError
from pipeline.check import check_folder
from pipeline.parameters import parse_parameters


def photo(number: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), number + 1).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """120 photos with counts 1 to 6, a broken one, and one without a count."""
    bins = tmp_path / "my bins"
    bins.mkdir()
    rows = [f"IMG_{number:04}.JPG;{1 + number // 20 % 6}" for number in range(120)]
    for number in range(120):
        (bins / f"IMG_{number:04}.JPG").write_bytes(photo(number))
    (bins / "broken.jpg").write_bytes(photo(1)[:300])
    (bins / "extra.jpg").write_bytes(photo(2))
    (bins / "counts.csv").write_text("\n".join(["photo;items", *rows, "broken.jpg;2"]))
    return bins


def test_it_tells_what_is_used_what_is_not_and_the_split(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_folder(parse_parameters([f"SOURCE={folder}"]), tmp_path / "check.csv")
    told = capsys.readouterr().out
    assert "120 photos with a count, 1 that cannot be read, 1 passed over" in told
    assert "a photo that counts.csv does not name (extra.jpg)" in told
    assert "its verdict will be weak" in told
    assert "6      20" in told
    assert "the split: train" in told
    with (tmp_path / "check.csv").open(encoding="utf-8-sig") as file:
        verdicts = {row["file"]: row["verdict"] for row in csv.DictReader(file)}
    assert len(verdicts) == 122
    assert verdicts["IMG_0000.JPG"] == "used"
    assert "broken.jpg" in verdicts
    assert verdicts["broken.jpg"] != "used"


def test_too_few_photos_are_refused_with_the_splits_own_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / "counts.csv").write_text("file,count\nIMG_0001.JPG,1\nIMG_0002.JPG,2\n")
    with pytest.raises(UserError, match=r"It is not enough for a run\. The 2 bins with 1 to 5 items lie in only 1"):
        check_folder(parse_parameters([f"SOURCE={folder}"]), tmp_path / "check.csv")


def test_only_a_folder_can_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SOURCE=generated is none; name your folder"):
        check_folder(parse_parameters([]), tmp_path / "check.csv")
