"""A small made source in the real store."""

import pytest

from tests.data.world import World


@pytest.fixture
def world(store_environment, tmp_path) -> World:
    return World(tmp_path)
