"""A real API server, as long as the tests of this folder run."""

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane, running


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with an overlay of manifests/ applied."""
    with running(tmp_path_factory.mktemp("control-plane")) as plane:
        plane.apply("overlays/local")
        yield plane
