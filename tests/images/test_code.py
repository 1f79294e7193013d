"""Which code an image holds, and that it does not depend on who lays it out: without building anything."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path, PurePath

import pytest

from components.__main__ import entry_points
from components.core.images import IMAGES, PIPELINE_IMAGE, SERVE_IMAGE, TRAIN_IMAGE, holds
from tests.images.conftest import ROOT

TOOLS = [PurePath("train/network/timm_models.py")]  # for those who change the code
FILES = [path.relative_to(ROOT / "components") for path in (ROOT / "components").rglob("*.py")]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_locked_package_has_a_hash_and_no_address(lock: Path) -> None:
    entries = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)
    packages = [entry for entry in entries if entry.strip() and not entry.startswith("#")]
    assert packages
    assert not [entry for entry in packages if "==" not in entry.split()[0] or "--hash=sha256:" not in entry]
    assert "://" not in lock.read_text()


def lay_out(image: str, checkout: Path, target: Path) -> None:
    command: list[str | Path] = [sys.executable, ROOT / "docker/lay_out.py", image, checkout, target]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_but_a_tool_is_in_an_image(file: PurePath) -> None:
    assert bool([image for image in IMAGES if holds(image, file)]) == (file not in TOOLS)


def test_every_entry_point_is_in_the_image_that_can_run_it() -> None:
    held = {
        image: {name for name, _ in entry_points() if holds(image, where(name))}
        for image in (PIPELINE_IMAGE, TRAIN_IMAGE, SERVE_IMAGE)
    }
    assert held[SERVE_IMAGE] == {"components.serve"}
    assert held[TRAIN_IMAGE] == {"components.train", "components.train_job.worker"}
    others = {name for name, _ in entry_points() if where(name) not in TOOLS}
    assert held[PIPELINE_IMAGE] == others - held[SERVE_IMAGE] - held[TRAIN_IMAGE]


def where(name: str) -> PurePath:
    path = PurePath(*name.split(".")[1:])
    return path / "__main__.py" if (ROOT / "components" / path).is_dir() else path.with_suffix(".py")


def test_code_is_laid_out_the_same_from_any_clone(tmp_path: Path) -> None:
    """Modes and times of the checkout are its own affair; what is laid out can be read by everybody."""
    private = tmp_path / "private"
    shutil.copytree(ROOT / "components", private / "components", copy_function=shutil.copyfile)
    for path in private.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    targets = [tmp_path / "one/app", tmp_path / "two/app"]
    before = os.umask(0o077)
    try:
        lay_out(SERVE_IMAGE, ROOT, targets[0])
        lay_out(SERVE_IMAGE, private, targets[1])
    finally:
        os.umask(before)
    first, second = (everything(target) for target in targets)
    assert first == second
    assert "components/serve/__main__.py" in first
    assert not [path for path in first if path.startswith("components/train")]
    assert {mode for mode, _, _ in first.values()} == {"-rw-r--r--", "drwxr-xr-x"}


def everything(folder: Path) -> dict[str, tuple[str, float, bytes]]:
    """Mode, time and content by path; byte code without the paths that it was compiled from."""
    return {
        str(path.relative_to(folder)): (
            stat.filemode(path.stat().st_mode),
            path.stat().st_mtime,
            b"" if path.is_dir() or path.suffix == ".pyc" else path.read_bytes(),
        )
        for path in folder.rglob("*")
    }
