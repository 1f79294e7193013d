"""The locked set of each image in a clean environment: the least that is shown where no image can be built."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.local_store import RunningStore
from tests.images.conftest import ROOT

LOCKED = ROOT / "requirements"
pytestmark = [pytest.mark.images, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Makes an environment from the locked set of an image, once; returns the folder that its commands run in."""
    uv = Path(sys.executable).with_name("uv")
    made: dict[str, Path] = {}

    def environment(image: str) -> Path:
        if image not in made:
            folder = tmp_path_factory.mktemp(image)
            shutil.copytree(ROOT / "components", folder / "components")
            locked = LOCKED / f"{image}.txt"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
            python = folder / "venv/bin/python"
            checked: list[str | Path] = [
                "--require-hashes",
                "--require-build-hashes",
                "--build-constraints",
                LOCKED / "build.txt",
            ]
            subprocess.run([uv, "pip", "sync", "--quiet", *checked, "--python", python, locked], check=True)
            made[image] = folder
        return made[image]

    yield environment
    for folder in made.values():
        shutil.rmtree(folder)


def run(folder: Path, *words: Any) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PATH"))}
    return subprocess.run(
        [folder / "venv/bin/python", "-m", *words],
        cwd=folder,
        env=variables | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("serve", ["serve"]),
        ("pipeline", ["ingest_metadata", "split", "download", "evaluate", "gate", "deploy"]),
    ],
)
def test_entry_points_answer_without_torch(environments: Callable[[str], Path], image: str, modules: list[str]) -> None:
    folder = environments(image)
    for module in modules:
        ended = run(folder, f"components.{module}", "--help")
        assert ended.returncode == 0, ended.stderr
    assert not list(folder.glob("venv/lib/python3*/site-packages/torch"))


def test_a_step_runs(environments: Callable[[str], Path], store_environment: RunningStore) -> None:
    ended = run(environments("pipeline"), "components.core.buckets", "made-by-a-locked-set")
    assert (ended.returncode, ended.stdout) == (0, "made made-by-a-locked-set\n"), ended.stderr
