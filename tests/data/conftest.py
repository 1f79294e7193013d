"""A small made source in the real store."""

import hashlib

import pytest

from tests.data.world import World


@pytest.fixture
def world(store_environment, tmp_path, request) -> World:
    """Named after its test: what befalls a request depends on its key, so a random name would draw other faults."""
    return World(tmp_path, hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16])
