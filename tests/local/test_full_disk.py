"""A full disk and one that can only be read, as real small file systems: one sentence, and nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.store import open_store
from pipeline.local_store import local_store
from pipeline.source import prepare_source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", tmp_path], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system takes root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def run_on(home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "run"],
        cwd=ROOT,
        env={**os.environ, "BIN_COUNTER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_disk_that_can_only_be_read_is_one_sentence(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ended = run_on(small_disk)
    assert ended.returncode == 1
    store = small_disk / "store"
    assert ended.stderr == f"error: {store} can only be read; make it writable, or name another folder.\n"


def test_a_full_disk_ends_a_run_with_one_sentence_and_the_next_run_works(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run_on(small_disk)
    assert ended.returncode == 1
    assert "is full" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stdout + ended.stderr
    subprocess.run(["mount", "-o", "remount,size=1G", small_disk], check=True)
    with local_store(small_disk / "store") as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        listed = sum(1 for _ in open_store(prepare_source("generated").uri).list())
    assert listed == 2 * 1000 - 2 + 1  # two bins without a photo, and the marker of a whole fill
