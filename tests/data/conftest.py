"""A small made source in the real store."""

import hashlib
from pathlib import Path

import pytest

from pipeline.local_store import RunningStore
from tests.data.world import World


@pytest.fixture
def world(store_environment: RunningStore, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """Named after its test: what befalls a request depends on its key, so a random name would draw other faults."""
    return World(tmp_path, hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16])
