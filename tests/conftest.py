"""Fixtures that several rooms share: a real store, and the real sample where it is at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.local_store import RunningStore, local_store

# How long one example takes says more of the machine than of the code; pytest-timeout ends what hangs.
settings.register_profile("bin-counter", deadline=None)
settings.load_profile("bin-counter")

SAMPLE = Path(__file__).parent.parent.parent / "shared" / "abid"


@pytest.fixture(scope="session")
def running_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    """A real S3 store (SeaweedFS) that lives as long as the tests."""
    with local_store(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store_environment(running_store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> RunningStore:
    """The same, with the AWS_* variables set so that `open_store` finds it."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in running_store.environment().items():
        monkeypatch.setenv(name, value)
    return running_store


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the real sample; the test skips where it is absent."""
    if not SAMPLE.is_dir():
        pytest.skip("the real sample is not beside this checkout")
    return SAMPLE
