"""The kserve target on a real cluster: KUBECONFIG points to one with KServe and an overlay of manifests/ applied.

The AWS_* variables must lead to the store of the cluster, say by `kubectl port-forward`. Services are reached through
the API server, so nothing else has to be reachable. The test uses an InferenceService of its own name.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.layout import golden_prefix, version_prefix
from components.core.registry import Deployment, GoldenRequest, Registry
from components.deploy.deploy import put_into_service
from components.deploy.diagnosis import service_path
from components.deploy.kserve import KServeTarget
from components.deploy.manifest import served_by
from components.deploy.options import KServeOptions
from components.deploy.runtimes import Runtimes
from components.deploy.target import Candidate
from tests.deploy.golden_model import Model, make_model
from tests.small_model import write_small_bundle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]
MODELS_URI = "s3://models"


@pytest.fixture(scope="module")
def target() -> Iterator[KServeTarget]:
    """The target on the cluster, under a name of its own; what was made is removed at the end."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG points to no cluster")
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("AWS_ENDPOINT_URL does not lead to the cluster's store")
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            [address] = re.findall(r"127\.0\.0\.1:\d+", proxy.stdout.readline())
            options = KServeOptions(
                name=f"test-{uuid4().hex[:8]}",
                address=f"http://{address}/api/v1/namespaces/{{namespace}}/services/{{service}}:80/proxy",
            )
            target = KServeTarget(options, Cluster.connect("leave these tests out"))
            yield target
            target.cluster.delete(service_path(options, options.name))
            leases = f"/apis/coordination.k8s.io/v1/namespaces/{options.namespace}/leases"
            target.cluster.delete(f"{leases}/{options.name}-deploy")
            Runtimes(target.cluster, options).remove_copies_but(set())
        finally:
            proxy.terminate()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, target: KServeTarget) -> Iterator[list[Model]]:
    """Two models, published where the cluster fetches them, and gone at the end."""
    folder = tmp_path_factory.mktemp("models")
    models = [make_model(write_small_bundle(folder / str(shift), shift)) for shift in (0.0, 0.02)]
    registry = Registry.open(MODELS_URI)
    before = registry.versions()
    for model in models:
        registry.publish(model.bundle.folder, model.golden)
    yield models
    ours = [model.version for model in models if model.version not in before]
    remove(registry, [prefix(version) for version in ours for prefix in (version_prefix, golden_prefix)])


def remove(registry: Registry, prefixes: list[str]) -> None:
    for prefix in prefixes:
        for entry in list(registry.store.list(prefix)):
            registry.store.delete(entry.key)


class Pointer(Registry):
    """A registry that reads the real versions but keeps its deployments to itself."""

    def __init__(self) -> None:
        super().__init__(Registry.open(MODELS_URI).store)
        self.own = Registry.open(f"{MODELS_URI}/test-{uuid4().hex}")
        for name in ("advance", "current", "write_latest", "serving"):
            setattr(self, name, getattr(self.own, name))


def put(target: KServeTarget, pointer: Pointer, model: Model, golden: list[GoldenRequest] | None = None) -> Deployment:
    before = pointer.current()
    candidate = Candidate(pointer, model.version, golden or model.golden)
    return put_into_service(candidate, target, before, before.version if before else "", None)


def test_first_replace_refuse_and_again_on_a_real_cluster(
    target: KServeTarget, models: list[Model], request: pytest.FixtureRequest
) -> None:
    first, second = models
    pointer = Pointer()
    request.addfinalizer(lambda: remove(pointer.own, [""]))

    def runs() -> str:
        service = target.cluster.get(service_path(target.options, target.options.name))
        assert service is not None
        served = served_by(service)
        assert served is not None
        return served.version

    assert put(target, pointer, first).version == runs() == first.version
    [one, *_] = second.golden
    wrong = one.answer.model_copy(update={"count": 6 - one.answer.count, "scores": one.answer.scores[::-1]})
    with pytest.raises(UserError, match="is wrong about test photo"):
        put(target, pointer, second, [replace(one, answer=wrong)])
    assert runs() == first.version
    assert put(target, pointer, second).version == runs() == second.version
    assert put(target, pointer, second).number == 2
