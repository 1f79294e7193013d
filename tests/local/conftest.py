"""What tests of local runs share."""

from pathlib import Path

import pytest

from drawn.__main__ import write_folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn bins, small enough for runs that are interrupted many times."""
    folder = tmp_path_factory.mktemp("bins")
    write_folder(folder, count=240, seed=2)
    return folder
