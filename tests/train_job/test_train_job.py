"""train_on=trainjob: the launcher against a Kubernetes API over HTTP, with a stand-in for Trainer's controller."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.recipe import choose_recipe, read_recipe
from components.train_job.exchange import Exchange, fingerprint
from components.train_job.jobs import Jobs
from components.train_job.launch import Patience, launch, training_arguments
from components.train_job.manifest import JOB_LABEL, NAMESPACE, QUEUE_LABEL, Pool, train_job
from pipeline.local_store import RunningStore
from pipeline.resources import PRESETS
from tests.fakes.kubernetes_api import ApiServer, serving
from tests.manifests.conftest import built, of_kind
from tests.schemas import custom_problem

DATA = "s3://bin-counter"
GKE = PRESETS["gke"]
POOL = Pool(
    image="bin-counter-train:dev",
    nodes=2,
    accelerator_type="nvidia.com/gpu",
    accelerator_count=1,
    node_selector=GKE.node_selector,
    tolerations=list(GKE.tolerations),
    cpu="4",
    memory="16Gi",
    shm_size="2Gi",
    timeout=3600,
)
ARGUMENTS = ["--recipe=frozen", "--seed=0"]
FAST = Patience(poll=0.05, unschedulable=0.3, pull=0.3, api=1)

Files = tuple[dict[str, Path], dict[str, Path]]  # a launch's inputs and outputs by name


@pytest.fixture
def api() -> ApiServer:
    server = ApiServer({NAMESPACE}, {"trainer.kubeflow.org": ["v1alpha1"]}, custom_problem)
    server.rules = of_kind(built("train-jobs/local"), "Role")["bin-counter-train-job"]["rules"]
    return server


@pytest.fixture
def jobs(api: ApiServer) -> Iterator[Jobs]:
    with serving(api) as address:
        configuration = client.Configuration(host=address)
        configuration.api_key = {"authorization": f"Bearer {api.token}"}
        yield Jobs(Cluster(client.ApiClient(configuration), first_pause=0.01), NAMESPACE)


@pytest.fixture
def files(tmp_path: Path, store_environment: RunningStore) -> Files:
    # Each test has inputs, and so a fingerprint, of its own in the store that all share.
    inputs = {"shard_index": tmp_path / "shard_index", "splits": tmp_path / "splits"}
    inputs["shard_index"].write_text(str(tmp_path))
    inputs["splits"].write_bytes(b"splits")
    return inputs, {name: tmp_path / "out" / name for name in ("bundle", "report", "curves")}


def leave_outputs(files: dict[str, Path], folder: Path) -> None:
    """What the first node's worker leaves when training went well."""
    made = {name: folder / "made" / name for name in ("bundle", "report", "curves")}
    made["bundle"].mkdir(parents=True)
    (made["bundle"] / "model.onnx").write_bytes(b"model")
    made["report"].write_text("<html>")
    made["curves"].write_bytes(b"png")
    Exchange(DATA, fingerprint(ARGUMENTS, POOL.image, files)).put_outputs(made)


def pod(job: str, index: int = 0, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{job}-node-0-{index}", "labels": {JOB_LABEL: job}},
        "status": {"phase": "Running", **status},
    }


def condition(kind: str, message: str = "") -> dict[str, list[dict[str, Any]]]:
    moment = "2026-01-01T00:00:00Z"
    return {
        "conditions": [
            {"type": kind, "status": "True", "reason": kind, "message": message, "lastTransitionTime": moment}
        ]
    }


@contextmanager
def controller(api: ApiServer, act: Callable[[str], None]) -> Iterator[None]:
    """Calls `act(name)` once, when a TrainJob appears, from a thread of its own as a controller would."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for job in api.all("trainjobs", NAMESPACE):
                act(job["metadata"]["name"])
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def terminated(code: int, message: str = "", reason: str = "Error") -> list[dict[str, Any]]:
    state = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    return [{"name": "node", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}]


def waiting(reason: str, message: str) -> list[dict[str, Any]]:
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": "node", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}]


@pytest.mark.parametrize("pool", [POOL, replace(POOL, accelerator_count=0, node_selector={}, tolerations=[], nodes=1)])
def test_the_train_job_fits_the_crd(pool: Pool) -> None:
    assert custom_problem(train_job("bin-counter-abc", pool, ARGUMENTS)) is None


def test_a_queue_of_kueue_is_named_only_where_one_was_given() -> None:
    body = train_job("bin-counter-abc", replace(POOL, queue="nightly"), ARGUMENTS)
    assert body["metadata"]["labels"][QUEUE_LABEL] == "nightly"
    assert QUEUE_LABEL not in train_job("bin-counter-abc", POOL, ARGUMENTS)["metadata"]["labels"]


def test_the_train_job_goes_to_the_gpu_pool_and_names_what_the_runtime_has() -> None:
    body = train_job("bin-counter-abc", POOL, ARGUMENTS)
    runtime = of_kind(built("train-jobs/local"), "ClusterTrainingRuntime")[body["spec"]["runtimeRef"]["name"]]
    replicated = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
    patch = body["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    pods = patch["template"]["spec"]["template"]["spec"]
    theirs = replicated["template"]["spec"]["template"]["spec"]
    assert patch["name"] == replicated["name"]
    assert [one["name"] for one in pods["containers"]] == [one["name"] for one in theirs["containers"]]
    assert {one["name"] for one in pods["volumes"]} <= {one["name"] for one in theirs["volumes"]}
    assert pods["nodeSelector"] == GKE.node_selector
    assert body["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
    assert body["spec"]["trainer"]["numNodes"] == 2


def test_a_job_that_completes_brings_its_files_back_prints_its_log_and_is_removed(
    api: ApiServer, jobs: Jobs, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, outputs = files

    def act(name: str) -> None:
        api.put("pods", NAMESPACE, pod(name))
        api.logs[f"{name}-node-0-0"] = "2026-01-01T00:00:00.1Z epoch 1\n2026-01-01T00:00:00.2Z epoch 2\n"
        time.sleep(0.2)
        leave_outputs(inputs, tmp_path)
        api.set_status("trainjobs", NAMESPACE, name, condition("Complete"))

    with controller(api, act):
        launch(jobs, inputs, outputs, ARGUMENTS, POOL, DATA, FAST)
    assert (outputs["bundle"] / "model.onnx").read_bytes() == b"model"
    assert outputs["report"].read_text() == "<html>"
    printed = capsys.readouterr().out
    assert printed.count("epoch 1") == printed.count("epoch 2") == 1
    assert api.all("trainjobs", NAMESPACE) == []


def test_the_log_is_passed_on_whole_also_around_progress_bars(
    api: ApiServer, jobs: Jobs, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar returns to the start of its line again and again; the kubelet puts a time before whole lines only."""
    inputs, outputs = files
    bar = "\rfeatures:  50%|#####     | 8/16\rfeatures: 100%|##########| 16/16"
    lines = ["Going on from epoch 2", f"{bar}", "epoch 3: loss 0.51", "epoch 4: loss 0.48"]

    def act(name: str) -> None:
        api.put("pods", NAMESPACE, pod(name))
        times = (f"2026-01-01T00:00:00.{place}Z" for place in range(len(lines)))
        api.logs[f"{name}-node-0-0"] = "".join(f"{time} {line}\n" for time, line in zip(times, lines, strict=True))
        time.sleep(0.2)
        leave_outputs(inputs, tmp_path)
        api.set_status("trainjobs", NAMESPACE, name, condition("Complete"))

    with controller(api, act):
        launch(jobs, inputs, outputs, ARGUMENTS, POOL, DATA, FAST)
    printed = capsys.readouterr().out
    assert [line for line in printed.split("\n") if line in lines] == lines


def test_a_launcher_that_was_lost_finds_its_job_again(
    api: ApiServer, jobs: Jobs, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, outputs = files
    name = f"bin-counter-{fingerprint(ARGUMENTS, POOL.image, inputs)[:12]}"
    api.put("trainjobs", NAMESPACE, train_job(name, POOL, ARGUMENTS))

    def end() -> None:
        leave_outputs(inputs, tmp_path)
        api.set_status("trainjobs", NAMESPACE, name, condition("Complete"))

    leave_outputs_later = threading.Timer(
        0.2,
        end,
    )
    leave_outputs_later.start()
    launch(jobs, inputs, outputs, ARGUMENTS, POOL, DATA, FAST)
    assert "was there already" in capsys.readouterr().out
    assert outputs["curves"].read_bytes() == b"png"


def test_a_job_whose_outputs_are_there_is_not_trained_again(
    api: ApiServer, jobs: Jobs, files: Files, tmp_path: Path
) -> None:
    inputs, outputs = files
    leave_outputs(inputs, tmp_path)
    launch(jobs, inputs, outputs, ARGUMENTS, POOL, DATA, FAST)
    assert api.requests == []
    assert (outputs["bundle"] / "model.onnx").is_file()


def fails(api: ApiServer, jobs: Jobs, files: Files, act: Callable[[str], None]) -> str:
    with controller(api, act), pytest.raises(UserError) as caught:
        launch(jobs, *files, ARGUMENTS, POOL, DATA, FAST)
    assert api.all("trainjobs", NAMESPACE) == []
    return str(caught.value)


def test_the_sentence_of_the_pod_is_the_sentence_of_the_step(api: ApiServer, jobs: Jobs, files: Files) -> None:
    def act(name: str) -> None:
        sentence = "There is no backbone resnet99; choose another."
        api.put("pods", NAMESPACE, pod(name, phase="Failed", containerStatuses=terminated(1, sentence)))
        api.set_status("trainjobs", NAMESPACE, name, condition("Failed", "jobset failed"))

    assert fails(api, jobs, files, act) == "There is no backbone resnet99; choose another."


def test_out_of_memory_says_what_to_give(api: ApiServer, jobs: Jobs, files: Files) -> None:
    def act(name: str) -> None:
        api.put("pods", NAMESPACE, pod(name, phase="Failed", containerStatuses=terminated(137, reason="OOMKilled")))
        api.set_status("trainjobs", NAMESPACE, name, condition("Failed"))

    assert "TRAIN_MEMORY" in fails(api, jobs, files, act)


def test_a_pod_that_no_node_takes_is_said_at_once_and_then_fails(
    api: ApiServer, jobs: Jobs, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(name: str) -> None:
        unscheduled = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
        api.put("pods", NAMESPACE, pod(name, phase="Pending", conditions=[unscheduled]))

    message = fails(api, jobs, files, act)
    assert message.startswith("No node fits the training pods (0/3 nodes are available: 3 Insufficient nvidia.com/gpu)")
    assert capsys.readouterr().out.count("waiting: 0/3 nodes") == 1


def test_an_image_that_cannot_be_pulled_is_named(api: ApiServer, jobs: Jobs, files: Files) -> None:
    def act(name: str) -> None:
        statuses = waiting("ImagePullBackOff", "Back-off pulling image bin-counter-train:dev")
        api.put("pods", NAMESPACE, pod(name, phase="Pending", containerStatuses=statuses))

    assert "cannot be started (ImagePullBackOff: Back-off" in fails(api, jobs, files, act)


def test_a_job_that_someone_deletes_is_said(api: ApiServer, jobs: Jobs, files: Files) -> None:
    assert "was deleted" in fails(api, jobs, files, lambda name: api.remove("trainjobs", NAMESPACE, name))


def test_the_small_role_of_the_manifests_is_enough_and_without_it_the_role_is_named(
    api: ApiServer, jobs: Jobs, files: Files
) -> None:
    api.rules = []
    with pytest.raises(UserError, match=r"We may not create .*trainjobs.*manifests/README.md"):
        launch(jobs, *files, ARGUMENTS, POOL, DATA, FAST)


def test_without_trainer_the_sentence_says_what_to_install(api: ApiServer, jobs: Jobs, files: Files) -> None:
    api.groups["trainer.kubeflow.org"] = ["v2"]
    with pytest.raises(UserError, match=r"install Kubeflow Trainer 2\.3"):
        launch(jobs, *files, ARGUMENTS, POOL, DATA, FAST)


def test_an_api_server_that_is_away_for_a_moment_does_not_matter(
    api: ApiServer, jobs: Jobs, files: Files, tmp_path: Path
) -> None:
    inputs, outputs = files

    def act(name: str) -> None:
        api.faults.unavailable = 3
        leave_outputs(inputs, tmp_path)
        api.set_status("trainjobs", NAMESPACE, name, condition("Complete"))

    with controller(api, act):
        launch(jobs, inputs, outputs, ARGUMENTS, POOL, DATA, replace(FAST, api=30))
    assert outputs["report"].is_file()


def test_half_written_outputs_do_not_count(files: Files, tmp_path: Path) -> None:
    inputs, outputs = files
    exchange = Exchange(DATA, fingerprint(ARGUMENTS, POOL.image, inputs))
    assert not exchange.done()
    with pytest.raises(UserError, match="without leaving a model"):
        exchange.get_outputs(outputs)


def test_every_parameter_of_training_reaches_the_command_line_that_train_takes() -> None:
    train = pytest.importorskip("components.train.__main__")
    given = {
        "recipe": choose_recipe("frozen", 2, 64, overrides='{"learning_rate": 0.1}').model_dump_json(),
        "weights": "",
        "study": "[]",
        "max_count": 5,
        "seed": 3,
        "data_uri": DATA,
    }
    words = [*training_arguments(given), "--shard-index=i", "--splits=s", "--output=o"]
    parsed = train._parser().parse_args(words)
    assert read_recipe(parsed.whole_recipe).model_dump_json() == given["recipe"]
    assert (parsed.study, parsed.max_count, parsed.seed, parsed.checkpoints) == ("[]", 5, 3, DATA)


def test_the_runtime_restarts_lost_pods_and_ends_with_mistakes() -> None:
    spec = of_kind(built("train-jobs/local"), "ClusterTrainingRuntime")["bin-counter"]["spec"]["template"]["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    codes = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert 1 in codes["values"]
    assert 3 not in codes["values"]
    assert yaml.safe_dump(spec).count("onJobFailureReasons") == 1
