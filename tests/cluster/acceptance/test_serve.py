"""A model on a real KServe: it starts, takes over, goes back, and what happens to requests meanwhile."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from components.core.registry import Registry
from tests.cluster.acceptance.load import Load, route_address
from tests.cluster.acceptance.site import MODELS_NAMESPACE, Object, Site, api_proxy, eventually, find, kubectl, objects
from tests.deploy.golden_model import Model, make_model
from tests.small_model import photo, write_small_bundle

FIRST_SECONDS = 60.0


@dataclass
class Service:
    """The suite's own InferenceService, deployed as `make rollback` does it."""

    site: Site
    proxy: str
    models: list[Model]
    extra: Object = field(default_factory=dict)

    def options(self, **more: object) -> str:
        """The deploy options as JSON."""
        address = f"{self.proxy}/api/v1/namespaces/{{namespace}}/services/{{service}}:80/proxy"
        return json.dumps(self.site.deploy_options | {"address": address} | self.extra | more)

    def start(self, model: Model | str, **more: object) -> subprocess.Popen[str]:
        """Begin to put a version into service."""
        version = model if isinstance(model, str) else model.version
        command = [sys.executable, "-u", "-m", "components.deploy", "rollback", version, "--target", "kserve"]
        command += ["--models-uri", self.site.models_uri, "--options", self.options(**more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def put(self, model: Model | str, **more: object) -> tuple[int, str]:
        """Put a version into service; status and output."""
        process = self.start(model, **more)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    def runs(self) -> str:
        """The version that the pods answer with."""
        predictor = f"{self.proxy}/api/v1/namespaces/{MODELS_NAMESPACE}/services/{self.site.name}-predictor:80/proxy"
        headers = {"Content-Type": "image/jpeg"}
        path = f"{predictor}/v1/models/bin-counter:predict"
        answer = httpx.post(path, content=photo(2, seed=2), headers=headers, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["predictions"][0]["model_version"])

    def pods(self) -> list[str]:
        """Names of the ready pods of the stable predictor."""
        selector = f"serving.kserve.io/inferenceservice={self.site.name}"
        return [
            pod["metadata"]["name"]
            for pod in objects("pods", MODELS_NAMESPACE, selector)
            if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        ]


@pytest.fixture(scope="module")
def service(kserve: None, site: Site, store: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three published toy models under a name of the suite's own; all of it is removed at the end."""
    folder: Path = tmp_path_factory.mktemp("models")
    models = [make_model(write_small_bundle(folder / str(shift), shift)) for shift in (0.0, 0.02, 0.04)]
    for model in models:
        Registry.open(site.models_uri).publish(model.bundle.folder, model.golden)
    with api_proxy() as proxy:
        yield Service(site, proxy, models)
    kubectl("-n", MODELS_NAMESPACE, "delete", "inferenceservice", site.name, "--ignore-not-found", check=False)


@pytest.fixture
def served(service: Service) -> Service:
    """The first model in service."""
    status, output = service.put(service.models[0])
    assert status == 0, output
    return service


def test_first_deploy_is_ready_within_a_minute(service: Service) -> None:
    kubectl("-n", MODELS_NAMESPACE, "delete", "inferenceservice", service.site.name, "--ignore-not-found")
    eventually("no pod left", lambda: not service.pods(), 120)
    began = time.monotonic()
    status, output = service.put(service.models[0])
    took = time.monotonic() - began
    assert status == 0, output
    assert service.runs() == service.models[0].version
    assert took <= FIRST_SECONDS, f"ready after {took:.0f} s"


def test_second_deploy_and_rollback(served: Service) -> None:
    for model in (served.models[1], served.models[0]):
        status, output = served.put(model)
        assert status == 0, output
        assert served.runs() == model.version


def test_what_is_deployed_may_not_leave_a_pod_without_restrictions(served: Service) -> None:
    """Every pod of the service passes `restricted`, its init container too."""
    labels = kubectl("get", "namespace", MODELS_NAMESPACE, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(labels).get("pod-security.kubernetes.io/enforce") == "restricted"
    selector = f"serving.kserve.io/inferenceservice={served.site.name}"
    for pod in objects("pods", MODELS_NAMESPACE, selector):
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, container["name"]


def test_an_image_that_does_not_exist_leaves_the_old_version_serving(served: Service) -> None:
    missing = "acceptance-no-such-runtime"
    status, output = served.put(served.models[1], runtime=missing)
    assert status != 0
    assert missing in output
    assert served.runs() == served.models[0].version


@pytest.mark.parametrize("after", [2.0, 8.0, 15.0])
def test_a_killed_deploy_leaves_something_serving_and_goes_through_when_run_again(
    served: Service, after: float
) -> None:
    process = served.start(served.models[1])
    time.sleep(after)
    process.kill()
    process.wait()
    assert served.runs() in {model.version for model in served.models}
    status, output = served.put(served.models[1])
    assert status == 0, output
    assert served.runs() == served.models[1].version


def test_of_two_deploys_at_once_one_is_refused_or_waits(served: Service) -> None:
    processes = [served.start(model) for model in served.models[1:]]
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    assert 0 in [process.returncode for process in processes], outputs
    assert served.runs() in {model.version for model in served.models[1:]}


def test_a_deleted_pod_is_made_again(served: Service) -> None:
    [pod, *_] = served.pods()
    kubectl("-n", MODELS_NAMESPACE, "delete", "pod", pod, "--wait=false")
    eventually("another pod", lambda: [one for one in served.pods() if one != pod], 180)
    assert served.runs() == served.models[0].version


def test_a_store_that_is_down_leaves_the_old_version_serving(served: Service) -> None:
    kubectl("-n", MODELS_NAMESPACE, "scale", "statefulset", "bin-counter-store", "--replicas=0")
    try:
        eventually("no store", lambda: not find("pod", MODELS_NAMESPACE, "bin-counter-store-0"), 120)
        assert served.runs() == served.models[0].version
    finally:
        kubectl("-n", MODELS_NAMESPACE, "scale", "statefulset", "bin-counter-store", "--replicas=1")
        kubectl("-n", MODELS_NAMESPACE, "rollout", "status", "statefulset/bin-counter-store", "--timeout=180s")


@pytest.fixture
def load(gateway: None, served: Service) -> Iterator[Load]:
    """Ten requests a second through the gateway, as long as the step runs."""
    address = route_address(served.site.name)
    if not address:
        pytest.skip("no HTTPRoute of this InferenceService is programmed by a gateway")
    with Load(*address) as load:
        yield load


def test_no_request_is_lost_over_a_second_deploy_and_a_rollback(served: Service, load: Load) -> None:
    for model in (served.models[1], served.models[0]):
        status, output = served.put(model)
        assert status == 0, output
    load.settle()
    assert load.lost == [], f"of {load.sent}"


def test_no_request_is_lost_over_a_canary_that_is_promoted(served: Service, load: Load) -> None:
    status, output = served.put(served.models[1], canary_percent=20, canary_seconds=15)
    assert status == 0, output
    load.settle()
    assert served.runs() == served.models[1].version
    assert load.lost == [], f"of {load.sent}"


def test_no_request_is_lost_over_scaling_one_three_one(served: Service, load: Load) -> None:
    for replicas in (3, 1):
        patch = json.dumps({"spec": {"predictor": {"minReplicas": replicas, "maxReplicas": replicas}}})
        kubectl("-n", MODELS_NAMESPACE, "patch", "inferenceservice", served.site.name, "--type=merge", "-p", patch)
        eventually(f"{replicas} pods", lambda: len(served.pods()) == replicas, 240)  # noqa: B023
    load.settle()
    assert load.lost == [], f"of {load.sent}"
