"""The compiled pipeline: guarded by a golden file, and with the right platform settings for every preset."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from components.core.errors import UserError
from components.core.images import PIPELINE_IMAGE, TRAIN_IMAGE, USER_ID
from pipeline.compile import Images, compile_manifest, compile_pipeline, golden
from pipeline.parameters import ClusterParameters, validated
from pipeline.resources import (
    PRESETS,
    STEPS,
    STORE_CONFIG_KEYS,
    STORE_NAME,
    STORE_SECRET_KEYS,
    Placement,
    parse_requests,
)
from tests.schemas import custom_problem

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "pipeline.yaml"


@cache
def compiled(tmp_folder: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    path = compile_pipeline(Placement(**options), Path(tmp_folder)).path
    ir, platform = yaml.safe_load_all(path.read_text())
    return ir, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture
def compile_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    return lambda **options: compiled(str(tmp_path_factory.getbasetemp() / "compiled"), **options)


def test_a_change_of_the_dag_shows_in_the_golden_file() -> None:
    assert golden() == GOLDEN.read_text(), "the DAG has changed; if that is meant, `make golden` takes the new one over"


def test_a_new_image_tag_changes_only_defaults_in_a_file_of_ones_own(tmp_path: Path) -> None:
    plain = compile_pipeline(Placement(), tmp_path / "a").path.read_text()
    tagged = compile_pipeline(Placement(), tmp_path / "b", Images("registry", "v2")).path.read_text()
    changed = [(old, new) for old, new in zip(plain.splitlines(), tagged.splitlines(), strict=True) if old != new]
    assert {new.strip() for _, new in changed} == {
        f"defaultValue: registry/{image}:v2" for image in (PIPELINE_IMAGE, TRAIN_IMAGE)
    } | {line.strip() for line in tagged.splitlines() if line.startswith("#") and line not in plain.splitlines()}


def test_compiling_twice_gives_the_same_version(tmp_path: Path) -> None:
    first, second = (compile_pipeline(Placement("gke"), tmp_path / name).version for name in "ab")
    assert first == second
    assert compile_pipeline(Placement("eks"), tmp_path / "c").version != first


@pytest.mark.parametrize("preset", PRESETS)
def test_training_goes_to_the_gpu_pool_by_pipeline_parameters(compile_for: Callable[..., Any], preset: str) -> None:
    ir, executors = compile_for(preset_name=preset)
    parameters = ir["root"]["inputDefinitions"]["parameters"]
    expected = PRESETS[preset]
    assert parameters["accelerator_type"]["defaultValue"] == "nvidia.com/gpu"
    assert parameters["accelerator_count"]["defaultValue"] == str(expected.accelerator_count)
    assert parameters["gpu_node_selector"]["defaultValue"] == expected.node_selector
    assert parameters["gpu_tolerations"]["defaultValue"] == [dict(one) for one in expected.tolerations]
    train = executors["exec-train"]
    assert "gpu_node_selector" in str(train["nodeSelector"])
    assert "gpu_tolerations" in str(train["tolerations"])
    resources = ir["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert "train_memory" in resources["resourceMemoryLimit"]
    assert "train_cpu" in resources["resourceCpuRequest"]
    if expected.accelerator_count:
        assert "accelerator_type" in resources["accelerator"]["resourceType"]
        assert "accelerator_count" in resources["accelerator"]["resourceCount"]
    else:
        assert "accelerator" not in resources


TAINT = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("preset", "count", "selector", "tolerations", "kept_off"),
    [
        (
            "gke",
            "1",
            {"cloud.google.com/gke-accelerator": "nvidia-l4"},
            TAINT,
            {"cloud.google.com/gke-accelerator"},
        ),
        (
            "eks",
            "1",
            {"node.kubernetes.io/instance-type": "g6.2xlarge"},
            TAINT,
            {"k8s.amazonaws.com/accelerator", "karpenter.k8s.aws/instance-gpu-name"},
        ),
        (
            "aks",
            "1",
            {"kubernetes.azure.com/accelerator": "nvidia"},
            [*TAINT, {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
            {"kubernetes.azure.com/accelerator"},
        ),
        ("onprem", "1", {}, TAINT, {"nvidia.com/gpu.present"}),
        ("cpu", "0", {}, [], set()),
    ],
)
def test_presets_say_what_these_clusters_label_and_taint(
    compile_for: Callable[..., Any],
    preset: str,
    count: str,
    selector: dict[str, Any],
    tolerations: list[dict[str, str]],
    kept_off: set[str],
) -> None:
    """In literal values, not those of the code: the parameters' defaults, and the platform spec that reads them."""
    ir, executors = compile_for(preset_name=preset)
    parameters = ir["root"]["inputDefinitions"]["parameters"]
    names = ("accelerator_type", "accelerator_count", "gpu_node_selector", "gpu_tolerations")
    defaults = [parameters[name].get("defaultValue") for name in names]
    assert defaults == ["nvidia.com/gpu", count, selector, tolerations]
    for step in ("exec-train", "exec-tune-trial"):
        [toleration] = executors[step]["tolerations"]
        read = executors[step]["nodeSelector"]["nodeSelectorJson"], toleration["tolerationJson"]
        for one, name in zip(read, ("gpu_node_selector", "gpu_tolerations"), strict=True):
            assert one["componentInputParameter"].endswith(name)
    labels = {one["key"] for two in executors["exec-split"].get("nodeAffinity", []) for one in two["matchExpressions"]}
    assert labels == kept_off


@pytest.mark.parametrize("preset", ["gke", "eks", "aks", "onprem"])
def test_cpu_steps_stay_off_the_gpu_pool(compile_for: Callable[..., Any], preset: str) -> None:
    ir, executors = compile_for(preset_name=preset)
    training = {"exec-train", "exec-tune-trial"}
    assert training < executors.keys()
    for name in executors.keys() - training:
        expressions = executors[name]["nodeAffinity"][0]["matchExpressions"]
        assert {one["key"] for one in expressions} == set(PRESETS[preset].gpu_labels), name
        assert {one["operator"] for one in expressions} == {"DoesNotExist"}
        assert "tolerations" not in executors[name]
        assert "accelerator" not in ir["deploymentSpec"]["executors"][name]["container"]["resources"]


def test_training_has_shared_memory(compile_for: Callable[..., Any]) -> None:
    _, executors = compile_for(preset_name="gke", shm_size="8Gi")
    (mount,) = executors["exec-train"]["emptyDirMounts"]
    assert (mount["mountPath"], mount["medium"], mount["sizeLimit"]) == ("/dev/shm", "Memory", "8Gi")


@pytest.mark.parametrize("train_on", ["pod", "trainjob"])
def test_every_step_has_requests_limits_a_timeout_and_secrets_by_reference(
    compile_for: Callable[..., Any], train_on: str
) -> None:
    ir, executors = compile_for(preset_name="gke", train_on=train_on)
    assert len(executors) == len(STEPS) - 1
    for name, executor in executors.items():
        resources = ir["deploymentSpec"]["executors"][name]["container"]["resources"]
        for key in ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"):
            assert resources[key], name
        assert int(executor["activeDeadlineSeconds"]) >= 600, name
        (secret,) = executor["secretAsEnv"]
        assert secret["secretName"] == STORE_NAME
        assert {one["envVar"] for one in secret["keyToEnv"]} == set(STORE_SECRET_KEYS)
        (config,) = executor["configMapAsEnv"]
        assert {one["envVar"] for one in config["keyToEnv"]} == set(STORE_CONFIG_KEYS)
        assert executor["securityContext"]["runAsNonRoot"] is True
        assert executor["securityContext"]["runAsUser"] == str(USER_ID)
        assert "env" not in ir["deploymentSpec"]["executors"][name]["container"]


def tasks(component: dict[str, Any]) -> dict[str, Any]:
    """All tasks of a DAG and of those inside it, by name."""
    found: dict[str, Any] = {}
    for ir in [component["root"], *component["components"].values()]:
        found |= ir.get("dag", {}).get("tasks", {})
    return found


def test_every_step_but_deploy_is_tried_again_with_backoff(compile_for: Callable[..., Any]) -> None:
    ir, _ = compile_for(preset_name="gke")
    steps = {name: task for name, task in tasks(ir).items() if name.replace("-", "_") in STEPS}
    assert len(steps) == len(STEPS) - 1  # all but train_job, which is not in this pipeline
    assert "retryPolicy" not in steps.pop("deploy")
    for name, task in steps.items():
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] >= 2, name
        assert (policy["backoffDuration"], policy["backoffFactor"]) == ("60s", 2.0), name


@pytest.mark.parametrize("train_timeout", [STEPS["train"].timeout, 600])
def test_a_pod_that_is_lost_at_the_end_of_every_attempt_still_has_its_last_one(
    compile_for: Callable[..., Any], train_timeout: int
) -> None:
    """Argo counts the window from the start of the first attempt, and ends what runs beyond it."""
    ir, executors = compile_for(preset_name="gke", train_timeout=train_timeout)
    with_retries = {name: task["retryPolicy"] for name, task in tasks(ir).items() if "retryPolicy" in task}
    assert len(with_retries) == len(STEPS) - 2  # all but deploy, and train_job, which is not in this pipeline
    for name, policy in with_retries.items():
        timeout = int(executors[f"exec-{name}"]["activeDeadlineSeconds"])
        attempts = policy["maxRetryCount"] + 1
        pauses = sum(60 * 2**retry for retry in range(policy["maxRetryCount"]))
        assert int(policy["backoffMaxDuration"].removesuffix("s")) >= attempts * timeout + pauses, name


def test_retries_can_be_switched_off(compile_for: Callable[..., Any]) -> None:
    ir, _ = compile_for(preset_name="gke", retries=False)
    assert not any("retryPolicy" in task for task in tasks(ir).values())


def test_what_looks_at_the_present_is_never_cached(compile_for: Callable[..., Any]) -> None:
    ir, _ = compile_for(preset_name="gke")
    cached = {name: task.get("cachingOptions", {}).get("enableCache", False) for name, task in tasks(ir).items()}
    assert [cached[name] for name in ("champion", "deploy", "summarise")] == [False] * 3
    assert all(cached[name] for name in ("ingest-metadata", "split", "download", "train", "evaluate"))


def test_the_run_is_summarised_whatever_happens(compile_for: Callable[..., Any]) -> None:
    ir, _ = compile_for(preset_name="gke")
    summary = ir["root"]["dag"]["tasks"]["summarise"]
    assert summary["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert summary["dependentTasks"] == ["exit-handler-1"]


def test_images_are_parameters_of_the_pipeline(compile_for: Callable[..., Any]) -> None:
    ir, _ = compile_for(preset_name="gke")
    for name, executor in ir["deploymentSpec"]["executors"].items():
        trains = name == "exec-train" or name.startswith("exec-tune-")
        parameter = "train_image" if trains else "pipeline_image"
        assert parameter in executor["container"]["image"], name


def test_a_train_job_takes_the_place_of_the_training_task_and_knows_the_pool(compile_for: Callable[..., Any]) -> None:
    ir, executors = compile_for(preset_name="eks", train_on="trainjob", nodes=2, queue="gpus")
    assert "exec-train" not in executors
    task = tasks(ir)["train-job"]
    inputs = task["inputs"]["parameters"]
    assert inputs["nodes"]["runtimeValue"]["constant"] == 2
    assert inputs["queue"]["runtimeValue"]["constant"] == "gpus"
    assert "gpu_node_selector" in str(inputs["node_selector"])
    assert "train_image" in str(inputs["image"])
    # The launcher is a small CPU task.
    assert "nodeSelector" not in executors["exec-train-job"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"nodes": 2}, "nodes=2 needs train_on=trainjob"),
        ({"queue": "gpus"}, "queue=gpus needs train_on=trainjob"),
        ({"nodes": 0, "train_on": "trainjob"}, "nodes=0 cannot be used"),
        ({"preset_name": "doks"}, "There is no preset doks; choose one of cpu, gke, eks, aks, onprem."),
        ({"train_on": "pods"}, "choose pod or trainjob"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_compiled(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        Placement(**options)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("gpu_node_selector", '{"a": ', 'GPU_NODE_SELECTOR={"a":  is not JSON'),
        ("gpu_node_selector", '["a"]', "should be a JSON object of labels and strings"),
        ("gpu_node_selector", '{"a": 1}', "should be a JSON object of labels and strings"),
        ("gpu_tolerations", '{"key": "a"}', "should be a JSON list of objects"),
        ("gpu_tolerations", '[{"keys": "a"}]', "a toleration has no field keys"),
        ("gpu_tolerations", '[{"key": "a", "operator": "exists"}]', "should be Equal or Exists"),
        ("accelerator_count", "-1", "give a number of GPUs from 0 to 99"),
        ("accelerator_type", "a100", "such as nvidia.com/gpu"),
        ("train_cpu", "four", "such as 4 or 500m"),
        ("train_memory", "16 GB", "such as 16Gi"),
    ],
)
def test_a_malformed_pool_is_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        validated(ClusterParameters, {name: value})


def test_the_requests_of_every_step_fit_the_smallest_node_of_the_readme(compile_for: Callable[..., Any]) -> None:
    """A kind node of 4 CPUs and 12 GB, on which Kubeflow's own pods ask for less than half of it."""
    ir, _ = compile_for(preset_name="cpu")
    defaults = ir["root"]["inputDefinitions"]["parameters"]
    own = {"train_cpu": defaults["train_cpu"]["defaultValue"], "train_memory": defaults["train_memory"]["defaultValue"]}
    for name, executor in ir["deploymentSpec"]["executors"].items():
        resources = executor["container"]["resources"]
        cpu, memory = (
            next((own[parameter] for parameter in own if parameter in resources[key]), resources[key])
            for key in ("resourceCpuRequest", "resourceMemoryRequest")
        )
        assert parse_quantity(cpu) <= 2, name
        assert parse_quantity(memory) <= 6 * 2**30, name


def test_the_requests_of_a_step_can_be_changed_and_its_limits_stay_above(tmp_path: Path) -> None:
    wanted = parse_requests('{"evaluate": {"memory": "12Gi"}, "gate": {"cpu": "100m"}}')
    text = compile_pipeline(Placement("gke", requests=wanted), tmp_path).path.read_text()
    ir, _ = yaml.safe_load_all(text)
    evaluate = ir["deploymentSpec"]["executors"]["exec-evaluate"]["container"]["resources"]
    assert (evaluate["resourceMemoryRequest"], evaluate["resourceMemoryLimit"]) == ("12Gi", "12Gi")
    assert (evaluate["resourceCpuRequest"], evaluate["resourceCpuLimit"]) == STEPS["evaluate"].cpu
    gate = ir["deploymentSpec"]["executors"]["exec-gate"]["container"]["resources"]
    assert (gate["resourceCpuRequest"], gate["resourceCpuLimit"]) == ("100m", "2")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"evaluate": ', "is not JSON"),
        ('["evaluate"]', "write an object of steps"),
        ('{"train": {"cpu": "1"}}', "TRAIN_CPU and TRAIN_MEMORY are for training"),
        ('{"evaluates": {"cpu": "1"}}', "there is no step evaluates"),
        ('{"evaluate": {"gpu": "1"}}', "gpu of evaluate should be cpu or memory"),
        ('{"evaluate": {"memory": "4 GB"}}', "memory of evaluate should be cpu or memory with a Kubernetes quantity"),
    ],
)
def test_malformed_requests_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_requests(text)


def test_kubernetes_objects_of_the_pipeline_fit_the_crds(tmp_path: Path) -> None:
    path = compile_manifest(Placement("gke"), tmp_path, Images("", "v1"), "abc-123", "kubeflow")
    pipeline, version = yaml.safe_load_all(path.read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert [custom_problem(pipeline), custom_problem(version)] == [None, None]
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    assert version["metadata"]["name"] == "bin-counter-abc-123"
    assert version["spec"]["displayName"] == "abc-123"


def test_names_of_images_agree_in_the_makefile_and_the_code() -> None:
    from components.core.images import IMAGES

    text = (ROOT / "make" / "cluster.mk").read_text()
    listed = re.search(r"^IMAGES := (.*)$", text, re.MULTILINE)
    assert listed is not None
    assert [f"bin-counter-{name}" for name in listed[1].split()] == list(IMAGES)
    for name in listed[1].split():
        assert (ROOT / "requirements" / f"{name}.txt").is_file()


def test_the_commands_write_both_files_and_say_where(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "compile", "--preset", "gke", "--tag", "v1", "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"pipeline.yaml", "pipeline-k8s.yaml"}
    digest = hashlib.sha256((tmp_path / "pipeline.yaml").read_bytes()).hexdigest()[:8]
    assert digest in ended.stdout
