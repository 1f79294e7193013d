"""The kserve target on a Kubernetes API over HTTP: whatever happens, the old version keeps serving.

Pods answer through the real model server; the API server grants exactly what manifests/ grants.
"""

import copy
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import yaml
from kubernetes import client

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.inference_service import predictor, served
from components.core.registry import Deployment, GoldenRequest, Registry
from components.deploy import golden, local
from components.deploy import rollout as stages
from components.deploy.deploy import put_into_service, roll_back
from components.deploy.kserve import KServeTarget
from components.deploy.lease import held_lease
from components.deploy.local import running_server
from components.deploy.options import KServeOptions
from components.deploy.target import Candidate
from pipeline.local_store import RunningStore
from tests.deploy.golden_model import Model, make_model
from tests.fakes.kserve_cluster import (
    GATEWAY_LAG,
    NAMESPACE,
    Fate,
    KServeCluster,
    Service,
    listen,
    merged,
    running,
)
from tests.fakes.kubernetes_api import ApiServer, kubeconfig, serving
from tests.schemas import CRDS, custom_problem
from tests.small_model import photo, write_small_bundle

ROOT = Path(__file__).parent.parent.parent
MAIN, SHADOW = "bin-counter", "bin-counter-candidate"
NAMES = {"a": 0.0, "b": 0.02, "c": 0.04}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Three models that differ a little."""
    folder = tmp_path_factory.mktemp("models")
    return {name: make_model(write_small_bundle(folder / name, shift)) for name, shift in NAMES.items()}


@pytest.fixture(scope="module")
def server_of(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Address of a real model server by version, started when first needed."""
    folder, urls = tmp_path_factory.mktemp("servers"), {}
    folders = {model.version: model.bundle.folder for model in models.values()}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "START_TIMEOUT_SECONDS", 600)  # on a busy machine

        def start(version: str) -> str:
            if version not in urls:
                urls[version] = stack.enter_context(running_server(folders[version], folder / version))
            return urls[version]

        for name in ("a", "b"):
            start(models[name].version)
        yield start


class World:
    """A cluster with KServe, a registry, and what a test does with them."""

    def __init__(
        self,
        api: ApiServer,
        url: str,
        kserve: KServeCluster,
        registry: Registry,
        models: dict[str, Model],
        certificate: Path | None = None,
    ) -> None:
        self.api, self.url, self.certificate = api, url, certificate
        self.kserve, self.registry, self.models = kserve, registry, models
        self.gateway = listen(lambda path: (kserve.through_the_gateway(path.split("/")[1]), path[path.index("/", 1) :]))
        for model in models.values():
            registry.publish(model.bundle.folder, model.golden)

    def client(self) -> client.ApiClient:
        """One with the rights of the deploy step."""
        configuration = client.Configuration(host=self.url, api_key={"authorization": f"Bearer {self.api.token}"})
        configuration.ssl_ca_cert = str(self.certificate) if self.certificate else None
        return client.ApiClient(configuration)

    def target(self, **options: object) -> KServeTarget:
        cluster = Cluster(self.client(), first_pause=0.01)
        quick = {"poll_seconds": 0.05, "ready_seconds": 20, "canary_seconds": 0.3, "schedule_seconds": 0.2}
        chosen = quick | {"drain_seconds": 2 * GATEWAY_LAG} | options
        return KServeTarget(KServeOptions.model_validate(chosen), cluster, lease_seconds=20)

    def deploy(self, model_name: str, golden: list[GoldenRequest] | None = None, **options: object) -> Deployment:
        model, before = self.models[model_name], self.registry.current()
        candidate = Candidate(self.registry, model.version, golden or model.golden)
        champion = before.version if before else ""
        return put_into_service(candidate, self.target(**options), before, champion, None)

    def version(self, name: str) -> str:
        return self.models[name].version

    def fate(self, name: str, **fate: Any) -> None:
        self.kserve.fates[self.version(name)] = Fate(**fate)

    def service(self, name: str = MAIN) -> dict[str, Any]:
        return self.api.must_have("inferenceservices", NAMESPACE, name)

    def gone(self, name: str = MAIN) -> bool:
        return self.api.get("inferenceservices", NAMESPACE, name) is None

    def answers(self, name: str = MAIN) -> str:
        """The version that a user's request reaches through the gateway, or the status code of a failure."""
        url = f"http://127.0.0.1:{self.gateway.server_port}/{name}/v1/models/bin-counter:predict"
        response = requests.post(url, photo(3), headers={"Content-Type": "image/jpeg"}, timeout=20)
        return response.json()["predictions"][0]["model_version"] if response.ok else str(response.status_code)

    def settled(self, name: str) -> bool:
        """Whether users get that version and only that, it is recorded, and nothing is left of a rollout."""
        self.until(lambda: [one["metadata"]["labels"]["app"] for one in self.pods()] == [f"{MAIN}-predictor"])
        time.sleep(GATEWAY_LAG)
        lease = self.api.must_have("leases", NAMESPACE, "bin-counter-deploy")
        return (
            {self.answers() for _ in range(5)} == {self.version(name)}
            and self.registry.serving() == self.version(name)
            and self.gone(SHADOW)
            and "canary" not in self.service()["spec"]
            and self.service()["spec"]["predictor"]["model"]["runtime"] in self.runtimes()
            and self.service()["spec"]["predictor"]["model"]["storageUri"].endswith(self.version(name))
            and lease["spec"]["holderIdentity"] == ""
        )

    def runtimes(self) -> list[str]:
        """Names of the ServingRuntimes, without the one of manifests/."""
        names = [one["metadata"]["name"] for one in self.api.all("servingruntimes", NAMESPACE)]
        return [name for name in names if name != "bin-counter"]

    def bring(self, image: str) -> None:
        """Apply manifests/ with another serving image."""
        runtime = self.api.must_have("servingruntimes", NAMESPACE, "bin-counter")
        runtime["spec"]["containers"][0]["image"] = image
        self.api.put("servingruntimes", NAMESPACE, runtime)

    def images(self) -> set[str]:
        """The images that pods run."""
        return {one["spec"]["runtime"]["containers"][0]["image"] for one in self.pods()}

    def pods(self) -> list[dict]:
        return self.api.all("pods", NAMESPACE)

    def until(self, true: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    @contextmanager
    def asked_all_the_time(self) -> Iterator[list[str]]:
        """Users ask one after another; collects who answered."""
        seen: list[str] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                seen.append(self.answers())
                time.sleep(0.01)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join()


def granted() -> list[dict]:
    """The rules that manifests/ gives the deploy step."""
    documents = yaml.safe_load_all((ROOT / "manifests/base/deploy-role.yaml").read_text())
    return next(one["rules"] for one in documents if one["kind"] == "Role")


def manifest(path: str) -> dict:
    return yaml.safe_load((ROOT / "manifests" / path).read_text())


def storage_container(registry: Registry) -> dict:
    """The one of manifests/, for the models of a test's own registry."""
    body = manifest("base/storage-container.yaml")
    body["spec"]["supportedUriFormats"] = [{"prefix": f"{registry.store.location}/bin-counter/"}]
    return body


@pytest.fixture
def world(
    store_environment: RunningStore,
    models: dict[str, Model],
    server_of: Callable[[str], str],
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    groups = {"serving.kserve.io": ["v1beta1", "v1alpha1"], "gateway.networking.k8s.io": ["v1"], "apps": ["v1"]}
    problem = custom_problem if CRDS.is_dir() else lambda _: None
    api = ApiServer({NAMESPACE}, groups, problem)
    api.rules = granted()
    registry = Registry.open(f"s3://models/{uuid4().hex}")
    api.put("servingruntimes", NAMESPACE, manifest("base/serving-runtime.yaml"))
    api.put("clusterstoragecontainers", "", storage_container(registry))
    api.put("serviceaccounts", NAMESPACE, {"metadata": {"name": "bin-counter-serve"}})
    kind = getattr(request, "param", "")
    kserve = KServeCluster(api, server_of, knative=kind == "Knative", gateway_api=kind != "no routes")
    with serving(api) as url, running(kserve):
        world = World(api, url, kserve, registry, models)
        yield world
        world.gateway.shutdown()


@pytest.fixture
def serving_a(world: World) -> World:
    """The world with version a in service."""
    world.deploy("a")
    world.kserve.history.clear()
    return world


def test_the_first_deploy_serves(world: World) -> None:
    record = world.deploy("a")
    assert (record.version, record.target, record.number) == (world.version("a"), "kserve", 1)
    assert world.settled("a")
    assert world.kserve.history == [(MAIN, world.version("a"))]


def test_the_second_runs_beside_the_first_before_it_takes_over_and_no_request_is_lost(serving_a: World) -> None:
    with serving_a.asked_all_the_time() as seen:
        serving_a.deploy("b")
    assert serving_a.kserve.history == [(SHADOW, serving_a.version("b")), (MAIN, serving_a.version("b"))]
    assert serving_a.settled("b")
    assert set(seen) <= {serving_a.version("a"), serving_a.version("b")}


def test_old_and_new_pods_that_answer_in_turn_are_waited_for_while_routes_settle(
    models: dict[str, Model], server_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "PAUSE_SECONDS", 0.02)
    new = models["b"]
    old, pods = server_of(models["a"].version), Service()
    turns = itertools.cycle([server_of(new.version), old])
    settled = time.monotonic() + 1

    def draw() -> str:
        return next(turns) if time.monotonic() < settled else server_of(new.version)

    monkeypatch.setattr(pods, "draw", draw)
    golden.check_answers(pods.url, new.version, new.bundle.info, new.golden, settle_seconds=20)
    monkeypatch.setattr(pods, "draw", lambda: next(turns))
    with pytest.raises(UserError, match=f"answered by version {models['a'].version}"):
        golden.check_answers(pods.url, new.version, new.bundle.info, new.golden)


def test_twice_changes_nothing(serving_a: World) -> None:
    before = serving_a.service()["metadata"]
    serving_a.deploy("a")
    after = serving_a.service()["metadata"]
    assert (before["resourceVersion"], before["generation"]) == (after["resourceVersion"], after["generation"])
    assert serving_a.kserve.history == []
    assert len(serving_a.registry.deployments()) == 1


def test_a_canary_takes_its_share_and_then_all(serving_a: World) -> None:
    with serving_a.api.watching("inferenceservices", NAMESPACE) as changes, serving_a.asked_all_the_time() as seen:
        serving_a.deploy("b", canary_percent=40, canary_seconds=1, address=serving_a.kserve.address)
    specs = [change["object"]["spec"] for change in list(changes.queue)]
    shares = [spec["canary"][0]["trafficPercent"] for spec in specs if "canary" in spec]
    assert list(dict.fromkeys(shares)) == [40, 0]
    assert set(seen) == {serving_a.version("a"), serving_a.version("b")}
    assert serving_a.settled("b")


@pytest.mark.parametrize("world", ["Knative"], indirect=True)
def test_a_knative_canary_is_a_share_for_the_newest_revision(serving_a: World) -> None:
    with serving_a.api.watching("inferenceservices", NAMESPACE) as changes:
        serving_a.deploy("b", canary_percent=10, mode="Knative")
    shares = [one["object"]["spec"]["predictor"].get("canaryTrafficPercent") for one in list(changes.queue)]
    assert 10 in shares
    assert shares[-1] is None
    assert serving_a.settled("b")


def test_a_canary_that_fails_under_traffic_is_taken_back(serving_a: World) -> None:
    def fall() -> None:
        serving_a.until(lambda: (MAIN, serving_a.version("b")) in serving_a.kserve.history)
        serving_a.until(lambda: any(one["ready"] for one in serving_a.service()["status"]["canaryStatuses"]))
        time.sleep(0.5)  # the deploy has seen that, too, and watches it under traffic
        serving_a.fate("b", crashes=True)
        with serving_a.api.lock:
            for pod in serving_a.pods():
                if pod["metadata"]["labels"]["app"] == f"{MAIN}-canary-predictor":
                    serving_a.api.remove("pods", NAMESPACE, pod["metadata"]["name"])

    with ThreadPoolExecutor(1) as pool:
        falling = pool.submit(fall)
        with pytest.raises(UserError, match=r"The canary failed under traffic \(.*the model is damaged"):
            serving_a.deploy("b", canary_percent=40, canary_seconds=15)
        falling.result()
    assert serving_a.settled("a")


def test_no_request_is_lost_when_a_canary_gives_wrong_answers_and_its_share_goes_back(
    serving_a: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(url: str, *_: object) -> None:
        if url.endswith("canary-predictor"):
            raise UserError("The canary is wrong.")

    monkeypatch.setattr(stages, "check_answers", check)
    with serving_a.asked_all_the_time() as seen, pytest.raises(UserError, match="The canary is wrong"):
        serving_a.deploy("b", canary_percent=40, address=serving_a.kserve.address)
    assert set(seen) == {serving_a.version("a"), serving_a.version("b")}
    assert serving_a.settled("a")


@pytest.mark.parametrize("world", ["no routes"], indirect=True)
def test_a_canary_is_refused_where_kserve_splits_nothing_although_the_gateway_api_is_there(serving_a: World) -> None:
    with pytest.raises(UserError, match=r"KServe made no HTTPRoute for bin-counter.*leave canary_percent out\."):
        serving_a.deploy("b", canary_percent=10)
    assert serving_a.kserve.history == []
    assert serving_a.service()["spec"]["predictor"]["model"]["storageUri"].endswith(serving_a.version("a"))


def test_a_canary_that_the_route_leaves_out_is_not_reported_as_done(
    serving_a: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "ROUTE_SECONDS", 0.3)
    to_main = lambda service: [(100, f"{service['metadata']['name']}-predictor")]  # noqa: E731
    monkeypatch.setattr(serving_a.kserve, "_shares", to_main)
    with pytest.raises(UserError, match=r"The canary gets no traffic: .* gives bin-counter-canary-predictor \[0\] %"):
        serving_a.deploy("b", canary_percent=10)
    assert serving_a.settled("a")


def test_no_model_starts_under_pod_security_without_a_storage_container_and_the_reason_is_told(world: World) -> None:
    with pytest.raises(UserError, match=r"violates PodSecurity .*storage-initializer"):
        world.deploy("a", storage_container="")
    with pytest.raises(UserError, match='ClusterStorageContainer "other" not found'):
        world.deploy("a", storage_container="other")
    assert world.gone()
    world.deploy("a")
    assert world.settled("a")


def test_another_serving_image_rolls_nothing_until_a_deploy_has_checked_it(serving_a: World) -> None:
    [first] = serving_a.images()
    serving_a.bring("bin-counter-serve:v2")
    time.sleep(0.3)
    assert serving_a.images() == {first}
    assert serving_a.kserve.history == []
    with serving_a.asked_all_the_time() as seen:
        serving_a.deploy("a")  # the same model on the new code is asked the golden requests like a new model
    assert serving_a.kserve.history == [(SHADOW, serving_a.version("a")), (MAIN, serving_a.version("a"))]
    assert serving_a.settled("a")
    assert serving_a.images() == {"bin-counter-serve:v2"}
    assert set(seen) == {serving_a.version("a")}


def test_a_serving_image_that_fails_goes_back_with_the_model(serving_a: World) -> None:
    [first], [code] = serving_a.images(), serving_a.runtimes()
    serving_a.bring("bin-counter-serve:broken")
    serving_a.fate("b", crashes=True, spares={SHADOW})
    with pytest.raises(UserError, match="cannot become ready"):
        serving_a.deploy("b")
    assert serving_a.settled("a")
    assert serving_a.images() == {first}
    assert serving_a.runtimes() == [code]


def test_only_the_code_in_use_and_the_one_before_are_kept(serving_a: World) -> None:
    for number in range(3):
        serving_a.bring(f"bin-counter-serve:v{number}")
        serving_a.deploy("a")
    assert len(serving_a.runtimes()) == 2
    assert serving_a.settled("a")


def test_a_change_of_the_runtime_that_a_model_names_itself_would_roll_its_pods(serving_a: World) -> None:
    """What the copies are for, as it was seen of KServe."""
    [name] = serving_a.runtimes()
    runtime = serving_a.api.must_have("servingruntimes", NAMESPACE, name)
    runtime["spec"]["containers"][0]["image"] = "bin-counter-serve:v2"
    serving_a.api.put("servingruntimes", NAMESPACE, runtime)
    serving_a.until(lambda: serving_a.images() == {"bin-counter-serve:v2"})


def test_any_name_works_with_what_manifests_grant(world: World) -> None:
    world.deploy("a", name="second")
    world.until(lambda: world.answers("second") == world.version("a"))
    world.deploy("b", name="second")
    assert world.service("second")["spec"]["predictor"]["model"]["storageUri"].endswith(world.version("b"))
    assert world.gone("second-candidate")


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_a_canary_that_does_not_come_up_is_taken_back(serving_a: World) -> None:
    mode = "Knative" if serving_a.kserve.knative else "Standard"
    serving_a.fate("b", crashes=True, spares={SHADOW})
    with serving_a.asked_all_the_time() as seen, pytest.raises(UserError, match="the canary cannot become ready"):
        serving_a.deploy("b", mode=mode, canary_percent=40)
    assert (MAIN, serving_a.version("b")) in serving_a.kserve.history
    assert serving_a.settled("a")
    assert set(seen) == {serving_a.version("a")}


def test_a_version_that_never_gets_ready_is_given_up_with_the_reason_and_without_what_is_always_said(
    serving_a: World, capsys: pytest.CaptureFixture[str]
) -> None:
    serving_a.fate("b", never_ready=True)
    with pytest.raises(UserError) as caught:
        serving_a.deploy("b", ready_seconds=0.5)
    told = str(caught.value)
    assert re.search(r"was not ready after \d s: .*events: Unhealthy: Readiness probe failed: 503\.$", told)
    always = [one["reason"] for one in serving_a.api.all("events", NAMESPACE) if one["reason"] != "Unhealthy"]
    assert {"VirtualServiceCRDNotFound", "FailedGetResourceMetric"} == set(always)
    said = told + capsys.readouterr().out
    assert not any(reason in said for reason in [*always, "Stopped", "unknown"])
    assert serving_a.settled("a")


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ({"crashes": True}, "ended with status 1 .* its last lines: loading / error: the model is damaged"),
        ({"waiting": ("ImagePullBackOff", "no such tag 3f2a")}, r"ImagePullBackOff \(no such tag 3f2a\)"),
        ({"waiting": ("CreateContainerConfigError", 'secret "x" not found')}, 'secret "x" not found'),
        (
            {"fetching": "botocore: NoSuchBucket: models"},
            "storage-initializer of pod .* ended with status 1 .*NoSuchBucket: models",
        ),
        ({"unschedulable": True}, "no node fits pod .*Insufficient nvidia.com/gpu"),
        ({"quota": "exceeded quota: models"}, r"no pod can be created \(exceeded quota: models\)"),
        ({"invalid": "no runtime of that name"}, "InvalidPredictorSpec: no runtime of that name"),
    ],
    ids=["crash loop", "image", "secret", "bucket", "no node", "quota", "invalid"],
)
def test_what_cannot_become_ready_is_told_at_once_and_the_old_version_stays(
    serving_a: World, fate: dict[str, Any], reason: str
) -> None:
    serving_a.fate("b", **fate)
    with serving_a.asked_all_the_time() as seen, pytest.raises(UserError, match=f"cannot become ready: .*{reason}"):
        serving_a.deploy("b", ready_seconds=60)
    assert serving_a.settled("a")
    assert set(seen) == {serving_a.version("a")}


def test_a_pod_that_has_restarted_in_its_life_is_healthy_once_it_is_ready(serving_a: World) -> None:
    serving_a.fate("b", restarts=4)
    serving_a.deploy("b", canary_percent=10, address=serving_a.kserve.address)
    assert serving_a.settled("b")


def test_a_failure_of_the_first_deploy_leaves_nothing(world: World) -> None:
    world.fate("a", crashes=True)
    with pytest.raises(UserError, match="cannot become ready"):
        world.deploy("a")
    assert world.gone()
    assert world.runtimes() == []
    assert world.registry.current() is None


def test_what_works_beside_but_not_in_place_is_put_back(serving_a: World) -> None:
    serving_a.fate("b", crashes=True, spares={SHADOW})
    with (
        serving_a.asked_all_the_time() as seen,
        pytest.raises(UserError, match="InferenceService bin-counter: the new"),
    ):
        serving_a.deploy("b")
    assert (MAIN, serving_a.version("b")) in serving_a.kserve.history
    assert serving_a.settled("a")
    assert set(seen) == {serving_a.version("a")}


def test_a_wrong_answer_keeps_the_new_version_out(serving_a: World) -> None:
    [first, *_] = serving_a.models["b"].golden
    wrong = first.answer.model_copy(update={"scores": first.answer.scores[::-1], "count": 6 - first.answer.count})
    with pytest.raises(UserError, match="is wrong about test photo 00000: count"):
        serving_a.deploy("b", golden=[GoldenRequest(first.jpeg, wrong)])
    assert serving_a.kserve.history == [(SHADOW, serving_a.version("b"))]
    assert serving_a.settled("a")


@pytest.mark.parametrize("after", [2, 5, 9, 13, 17])
def test_a_lost_connection_leaves_the_old_version_and_the_next_run_ends_well(serving_a: World, after: int) -> None:
    serving_a.api.faults.drop_after = after
    with pytest.raises(UserError, match=r"cannot be reached .* run again, which goes on where this stopped"):
        serving_a.deploy("b")
    assert serving_a.answers() in {serving_a.version("a"), serving_a.version("b")}
    serving_a.api.faults.drop_after = None
    if serving_a.api.must_have("leases", NAMESPACE, "bin-counter-deploy")["spec"]["holderIdentity"]:
        shorten_lease(serving_a)
    serving_a.deploy("b")
    assert serving_a.settled("b")


def test_hiccups_of_the_api_server_do_not_matter(serving_a: World) -> None:
    serving_a.api.faults.unavailable = 3
    serving_a.api.faults.lose_answers = 1
    serving_a.deploy("b")
    assert serving_a.settled("b")


def test_a_webhook_that_does_not_answer_is_named_as_kserves(serving_a: World) -> None:
    serving_a.api.faults.webhook_down = True
    with pytest.raises(UserError, match=r"because KServe's webhook does not answer \(Service kserve-webhook-server-"):
        serving_a.deploy("b")
    serving_a.api.faults.webhook_down = False
    assert serving_a.settled("a")


@pytest.mark.parametrize(
    ("resource", "verb"),
    [("inferenceservices", "patch"), ("leases", "create"), ("pods", "list"), ("deployments", "get")],
)
def test_a_missing_permission_is_named_and_nothing_is_left(serving_a: World, resource: str, verb: str) -> None:
    serving_a.api.remove("leases", NAMESPACE, "bin-counter-deploy")
    serving_a.fate("b", never_ready=True)  # so that its pods are looked at
    whole = granted()
    less = [
        rule | {"verbs": [one for one in rule["verbs"] if resource not in rule["resources"] or one != verb]}
        for rule in whole
    ]
    serving_a.api.rules = [rule for rule in less if rule["verbs"]]
    with pytest.raises(UserError, match=rf"We may not .*{resource}.*manifests/README.md"):
        serving_a.deploy("b")
    serving_a.api.rules = whole
    assert serving_a.answers() == serving_a.version("a")
    assert serving_a.registry.serving() == serving_a.version("a")
    assert serving_a.gone(SHADOW)


def test_every_permission_is_one_that_is_used(serving_a: World) -> None:
    serving_a.bring("bin-counter-serve:v2")
    serving_a.fate("b", crashes=True)
    with pytest.raises(UserError, match="cannot become ready"):
        serving_a.deploy("b", canary_percent=10)
    assert serving_a.api.used == {
        (resource, verb) for rule in granted() for resource in rule["resources"] for verb in rule["verbs"]
    }


def test_a_kserve_without_canaries_refuses_before_anything_starts(serving_a: World) -> None:
    """The CRD of an older version: the dry run of what will be applied later tells."""
    whole = serving_a.api.problem
    serving_a.api.problem = lambda body: (
        'unknown field "spec.canary"' if "canary" in body.get("spec", {}) else whole(body)
    )
    with pytest.raises(UserError, match=r'refused to apply .*unknown field "spec\.canary"'):
        serving_a.deploy("b", canary_percent=10)
    assert serving_a.kserve.history == []
    assert serving_a.settled("a")


def test_two_at_once_cannot_both_win_and_the_loser_says_so(serving_a: World) -> None:
    def attempt(name: str) -> str:
        try:
            return serving_a.deploy(name).version
        except UserError as error:
            return str(error)

    serving_a.kserve.server_of(serving_a.version("c"))
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(attempt, ["b", "c"]))
    winners = [name for name in ("b", "c") if serving_a.version(name) in ended]
    assert len(winners) == 1
    assert any("Another deploy is under way" in one or "another deploy put" in one for one in ended)
    assert serving_a.settled(winners[0])


def test_a_deploy_overtaken_by_another_target_puts_back_what_served(serving_a: World) -> None:
    behind = serving_a.registry.current()
    serving_a.registry.advance(behind, "0123456789ab", "", "", "local", None)
    model = serving_a.models["b"]
    with pytest.raises(UserError, match="another deploy put 0123456789ab there first"):
        put_into_service(
            Candidate(serving_a.registry, model.version, model.golden), serving_a.target(), behind, "", None
        )
    serving_a.until(lambda: serving_a.answers() == serving_a.version("a"))


def command(world: World, folder: Path, *arguments: str, **more: object) -> tuple[list[str], dict[str, str]]:
    """The real command line, with a KUBECONFIG that leads to the API server."""
    configuration = kubeconfig(world.url, world.api.token, world.certificate)
    (folder / "kubeconfig").write_text(json.dumps(configuration))
    options = json.dumps({"poll_seconds": 0.05, "ready_seconds": 60} | more)
    uri = str(world.registry.store.location)
    words = [sys.executable, "-m", "components.deploy", *arguments, "--models-uri", uri, "--target", "kserve"]
    return [*words, "--options", options], os.environ | {"KUBECONFIG": str(folder / "kubeconfig")}


def shorten_lease(world: World) -> None:
    """So that the next deploy need not watch the lease of one that died for a whole minute."""
    lease = world.api.must_have("leases", NAMESPACE, "bin-counter-deploy")
    assert lease["spec"]["holderIdentity"]
    lease["spec"]["leaseDurationSeconds"] = 1
    world.api.put("leases", NAMESPACE, lease)


@pytest.mark.parametrize("skew", [-61, 61, 86_400])
def test_a_clock_that_is_wrong_takes_no_lease_from_a_deploy_at_work(world: World, skew: int) -> None:
    """Times in a lease are those of the machine that holds it, whatever its clock says."""
    held = threading.Event()

    def set_the_clock() -> None:
        while not held.is_set():
            lease = world.api.must_have("leases", NAMESPACE, "bin-counter-deploy")
            if lease and lease["spec"]["holderIdentity"]:
                moment = datetime.now(UTC) + timedelta(seconds=skew)
                lease["spec"] |= {"renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "holderIdentity": "the other"}
                world.api.put("leases", NAMESPACE, lease)
            time.sleep(0.05)

    lease = {"holderIdentity": "the other", "leaseDurationSeconds": 1, "renewTime": "2026-01-01T00:00:00.000000Z"}
    world.api.put("leases", NAMESPACE, {"metadata": {"name": "bin-counter-deploy"}, "spec": lease})
    renewing = threading.Thread(target=set_the_clock)
    renewing.start()
    with pytest.raises(UserError, match="Another deploy is under way"):
        world.deploy("a")
    held.set()
    renewing.join()
    world.deploy("a")  # now nobody renews it
    assert world.settled("a")


def test_a_lease_that_could_not_be_renewed_in_time_stops_the_deploy(world: World) -> None:
    cluster = Cluster(world.client(), first_pause=0.01)
    with held_lease(cluster, NAMESPACE, "bin-counter-deploy", "version a", duration=0.4) as lease:
        lease.check()
        time.sleep(0.6)
        lease.check()  # it is renewed meanwhile
        world.api.faults.drop_after = 0
        time.sleep(0.6)
        with pytest.raises(UserError, match=r"could not be renewed for 0 s; run again"):
            lease.check()
        world.api.faults.drop_after = None
        with pytest.raises(UserError, match="could not be renewed"):
            lease.check()  # even if it is renewed now: somebody may have had it in between


@pytest.mark.parametrize("moment", [SHADOW, MAIN])
def test_a_deploy_killed_half_way_is_picked_up_by_the_next(serving_a: World, tmp_path: Path, moment: str) -> None:
    serving_a.fate("b", never_ready=True, spares={SHADOW} if moment == MAIN else set())
    words, environment = command(serving_a, tmp_path, "rollback", serving_a.version("b"))
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    serving_a.until(lambda: (moment, serving_a.version("b")) in serving_a.kserve.history, 240)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert serving_a.answers() == serving_a.version("a")
    shorten_lease(serving_a)
    if moment == MAIN:  # a candidate that fails now must bring back a, although b stands in the InferenceService
        serving_a.fate("c", crashes=True)
        with pytest.raises(UserError, match="cannot become ready"):
            serving_a.deploy("c")
        assert serving_a.settled("a")
    serving_a.fate("b")
    with serving_a.api.lock:
        for pod in serving_a.pods():
            if not pod["status"]["ready"]:
                serving_a.api.remove("pods", NAMESPACE, pod["metadata"]["name"])
    serving_a.deploy("b")
    assert serving_a.settled("b")


def test_a_first_deploy_killed_half_way_leaves_nothing_when_the_next_fails(world: World, tmp_path: Path) -> None:
    world.fate("a", never_ready=True)
    words, environment = command(world, tmp_path, "rollback", world.version("a"))
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    world.until(lambda: (MAIN, world.version("a")) in world.kserve.history, 240)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shorten_lease(world)
    world.fate("b", crashes=True)
    with pytest.raises(UserError, match="cannot become ready"):
        world.deploy("b")
    assert world.gone()
    assert world.registry.current() is None


@pytest.mark.parametrize("world", ["Standard", "Knative"], indirect=True)
def test_a_deploy_killed_while_its_canary_has_a_share_is_picked_up_by_the_next(
    serving_a: World, tmp_path: Path
) -> None:
    mode = "Knative" if serving_a.kserve.knative else "Standard"
    share: dict[str, Any] = {
        "mode": mode,
        "canary_percent": 40,
        "canary_seconds": 60,
        "address": serving_a.kserve.address,
    }
    words, environment = command(serving_a, tmp_path, "rollback", serving_a.version("b"), **share)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    serving_a.until(lambda: (MAIN, serving_a.version("b")) in serving_a.kserve.history, 240)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    spec = serving_a.service()["spec"]
    assert "canary" in spec or "canaryTrafficPercent" in spec["predictor"]
    shorten_lease(serving_a)
    serving_a.fate("c", crashes=True)
    with serving_a.asked_all_the_time() as seen, pytest.raises(UserError, match="cannot become ready"):
        serving_a.deploy("c", mode=mode)
    assert set(seen) <= {serving_a.version("a"), serving_a.version("b")}
    assert serving_a.settled("a")
    serving_a.deploy("b", **share | {"canary_seconds": 0.3})
    assert serving_a.settled("b")


def test_an_earlier_version_is_rolled_back_to_by_the_same_way(serving_a: World) -> None:
    serving_a.deploy("b")
    serving_a.kserve.history.clear()
    record = roll_back(str(serving_a.registry.store.location), serving_a.target(), serving_a.version("a"))
    assert (record.version, record.champion) == (serving_a.version("a"), serving_a.version("b"))
    assert serving_a.kserve.history == [(SHADOW, serving_a.version("a")), (MAIN, serving_a.version("a"))]
    assert serving_a.settled("a")


def platform_service() -> dict:
    return manifest("inference-service/inference-service.yaml")


def apply_as(world: World, manager: str, body: dict) -> None:
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{MAIN}"
    world.client().call_api(
        path,
        "PATCH",
        query_params=[("fieldManager", manager)],
        header_params={"Content-Type": "application/apply-patch+yaml"},
        body=body,
        auth_settings=["BearerToken"],
    )


def test_what_the_platform_says_about_scaling_stays(world: World) -> None:
    apply_as(world, "platform", platform_service())
    world.fate("a", crashes=True)
    with pytest.raises(UserError):
        world.deploy("a")
    ours = world.service()["spec"]["predictor"]
    assert ours == platform_service()["spec"]["predictor"]
    world.fate("a")
    world.until(lambda: not world.pods())
    world.deploy("a")
    theirs = world.service()["spec"]["predictor"]
    assert (theirs["minReplicas"], theirs["maxReplicas"]) == (2, 6)
    assert theirs["model"]["storageUri"].endswith(world.version("a"))
    assert theirs["model"]["resources"] == platform_service()["spec"]["predictor"]["model"]["resources"]


def test_a_version_that_another_tool_keeps_is_not_taken_unless_asked_and_it_is_said_whose_it_is(world: World) -> None:
    other, runtime = platform_service(), copy.deepcopy(world.api.must_have("servingruntimes", NAMESPACE, "bin-counter"))
    world.api.put("servingruntimes", NAMESPACE, runtime | {"metadata": {"name": "kept-in-git"}})
    model = served(world.version("a"), str(world.registry.store.location)).on("kept-in-git")
    other["spec"]["predictor"] = merged(other["spec"]["predictor"], predictor(model))
    apply_as(world, "argocd", other)
    world.until(lambda: world.answers() == world.version("a"))
    a, b = world.version("a"), world.version("b")
    with pytest.raises(UserError) as caught:
        world.deploy("b")
    told = str(caught.value)
    kept = "The InferenceService bin-counter is kept by 'argocd' (server-side apply)"
    assert told.startswith(f"{kept}, which says that it serves {a};")
    assert f"make manifests VERSION={b}" in told
    assert "take_over" in told
    assert world.answers() == a
    world.deploy("b", take_over=True)
    assert world.settled("b")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda api: api.groups.pop("serving.kserve.io"), "KServe is not installed"),
        (lambda api: api.groups.update({"serving.kserve.io": ["v1alpha1"]}), "it has v1alpha1"),
        (lambda api: api.remove("servingruntimes", NAMESPACE, "bin-counter"), "no ServingRuntime bin-counter"),
        (
            lambda api: api.remove("serviceaccounts", NAMESPACE, "bin-counter-serve"),
            "no ServiceAccount bin-counter-serve",
        ),
        (lambda api: setattr(api, "token", "renewed"), "does not accept our credentials"),
    ],
    ids=["no kserve", "other crd", "no runtime", "no account", "token"],
)
def test_what_the_cluster_lacks_is_one_sentence_before_anything_starts(
    world: World, change: Callable[[ApiServer], object], sentence: str
) -> None:
    target = world.target()
    change(world.api)
    model = world.models["a"]
    with pytest.raises(UserError, match=sentence) as caught:
        put_into_service(Candidate(world.registry, model.version, model.golden), target, None, "", None)
    assert str(caught.value).endswith(".")
    assert world.gone()


def test_a_namespace_that_does_not_exist_is_named(world: World) -> None:
    with pytest.raises(UserError, match=r"namespace.*elsewhere.*; check the namespace"):
        world.deploy("a", namespace="elsewhere")


def test_a_cluster_that_cannot_be_reached_is_named(world: World) -> None:
    world.url = "http://127.0.0.1:9"
    with pytest.raises(UserError, match=r"The Kubernetes API at http://127\.0\.0\.1:9 cannot be reached"):
        world.deploy("a")


def test_from_a_shell_a_failed_deploy_is_one_sentence_and_status_1(serving_a: World, tmp_path: Path) -> None:
    serving_a.fate("b", waiting=("ImagePullBackOff", "no such tag"))
    words, environment = command(serving_a, tmp_path, "rollback", serving_a.version("b"))
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: InferenceService bin-counter-candidate: the new version")
    assert "Traceback" not in run.stderr
    assert serving_a.settled("a")
