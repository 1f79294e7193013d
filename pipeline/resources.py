"""What every step gets on a cluster: node pool, CPU and memory, secrets, timeout, retry.

KFP takes pipeline parameters for the GPU pool (`GpuPool`), so those can change with every run. Timeouts, retries and
the size of /dev/shm are constants of the compiled pipeline (`Placement`), so those are options of `make compile`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from kfp import dsl, kubernetes
from kubernetes.utils.quantity import parse_quantity

from components.core.errors import UserError
from components.core.images import USER_ID
from pipeline.pool import CPU, MEMORY, read_json

# The names that manifests/ gives to these objects (a test compares).
SERVICE_ACCOUNT = "bin-counter-pipeline"
STORE_NAME = "bin-counter-store"  # a Secret and a ConfigMap
STORE_SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
STORE_CONFIG_KEYS = ("AWS_ENDPOINT_URL", "AWS_REGION")

TrainOn = Literal["pod", "trainjob"]


@dataclass(frozen=True)
class StepResources:
    """Requests and limits of a step, the seconds after which it is stopped, and how often it is tried again."""

    cpu: tuple[str, str]
    memory: tuple[str, str]
    timeout: int
    retries: int

    def requesting(self, wanted: Mapping[str, str]) -> "StepResources":
        """The same with other requests of `cpu` and `memory`; a limit below a request is raised to it."""
        cpu, memory = (
            (wanted[name], max(wanted[name], limit, key=parse_quantity)) if name in wanted else (request, limit)
            for name, (request, limit) in (("cpu", self.cpu), ("memory", self.memory))
        )
        return replace(self, cpu=cpu, memory=memory)

    @property
    def retry_window(self) -> int:
        """Seconds from the start of the first attempt within which the last one may still end.

        Argo counts a retry's maximum duration from there, and ends an attempt that runs beyond it.
        """
        pauses = sum(BACKOFF_SECONDS * BACKOFF_FACTOR**retry for retry in range(self.retries))
        return (self.retries + 1) * self.timeout + pauses


HOUR = 3600
BACKOFF_SECONDS = 60
BACKOFF_FACTOR = 2
# Every step but deploy may be repeated: it writes under the fingerprint of its inputs, or only its own outputs.
# A deployment that failed has put the old version back; whether to try again is for a person to say.
STEPS = {
    "choose_recipe": StepResources(("100m", "1"), ("256Mi", "1Gi"), timeout=600, retries=2),
    "ingest_metadata": StepResources(("500m", "4"), ("1Gi", "4Gi"), timeout=4 * HOUR, retries=3),
    "split": StepResources(("250m", "2"), ("1Gi", "8Gi"), timeout=HOUR, retries=2),
    "download": StepResources(("500m", "4"), ("1Gi", "8Gi"), timeout=12 * HOUR, retries=3),
    "train": StepResources(("4", "4"), ("16Gi", "16Gi"), timeout=24 * HOUR, retries=3),
    "tune_plan": StepResources(("100m", "1"), ("512Mi", "1Gi"), timeout=600, retries=2),
    "tune_trial": StepResources(("4", "4"), ("16Gi", "16Gi"), timeout=24 * HOUR, retries=3),
    "tune_select": StepResources(("100m", "1"), ("1Gi", "4Gi"), timeout=600, retries=2),
    "train_job": StepResources(("100m", "1"), ("512Mi", "1Gi"), timeout=24 * HOUR, retries=3),
    "evaluate": StepResources(("1", "4"), ("2Gi", "8Gi"), timeout=2 * HOUR, retries=2),
    "champion": StepResources(("100m", "1"), ("256Mi", "1Gi"), timeout=600, retries=2),
    "gate": StepResources(("500m", "2"), ("1Gi", "4Gi"), timeout=HOUR, retries=2),
    "deploy": StepResources(("250m", "2"), ("1Gi", "4Gi"), timeout=2 * HOUR, retries=0),
    "summarise": StepResources(("100m", "1"), ("256Mi", "1Gi"), timeout=600, retries=2),
}


GPU_STEPS = ("train", "tune_trial")
TRAIN_IMAGE_STEPS = ("train", "tune_plan", "tune_trial", "tune_select")


@dataclass(frozen=True)
class Preset:
    """A kind of cluster: how its GPU nodes are asked for, and by which labels CPU steps stay away from them."""

    accelerator_type: str = "nvidia.com/gpu"
    accelerator_count: int = 1
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, str], ...] = ()
    gpu_labels: tuple[str, ...] = ()
    train_cpu: str = "4"
    train_memory: str = "16Gi"


GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
PRESETS = {
    # No GPU at all: a kind cluster on a laptop, whose node has to fit the training beside Kubeflow.
    "cpu": Preset(accelerator_count=0, train_cpu="2", train_memory="6Gi"),
    # GKE labels GPU nodes by model and taints them by itself.
    "gke": Preset(
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"},
        tolerations=(GPU_TOLERATION,),
        gpu_labels=("cloud.google.com/gke-accelerator",),
    ),
    # EKS labels by instance type; the first label is the cluster autoscaler's, the second Karpenter's.
    "eks": Preset(
        node_selector={"node.kubernetes.io/instance-type": "g6.2xlarge"},
        tolerations=(GPU_TOLERATION,),
        gpu_labels=("k8s.amazonaws.com/accelerator", "karpenter.k8s.aws/instance-gpu-name"),
    ),
    # AKS labels GPU nodes and taints none; the second taint is what its documentation creates GPU pools with.
    "aks": Preset(
        node_selector={"kubernetes.azure.com/accelerator": "nvidia"},
        tolerations=(GPU_TOLERATION, {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}),
        gpu_labels=("kubernetes.azure.com/accelerator",),
    ),
    # NVIDIA's device plugin alone: the resource decides; the label is there with its GPU feature discovery.
    "onprem": Preset(tolerations=(GPU_TOLERATION,), gpu_labels=("nvidia.com/gpu.present",)),
}


class GpuPool(NamedTuple):
    """The GPU pool of a run as pipeline parameters; each is a KFP channel while the DAG is built.

    Counts are strings, because KFP's driver reads placeholders in resources as strings.
    """

    accelerator_type: Any
    accelerator_count: Any
    gpu_node_selector: Any
    gpu_tolerations: Any
    train_cpu: Any
    train_memory: Any


@dataclass(frozen=True)
class Placement:
    """Compile options, and the rules that put each task of the DAG where it belongs."""

    preset_name: str = "cpu"
    train_on: TrainOn = "pod"
    nodes: int = 1
    retries: bool = True
    shm_size: str = "2Gi"
    train_timeout: int = STEPS["train"].timeout
    queue: str = ""  # Kueue's LocalQueue for TrainJobs
    requests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # cpu and memory by step, where not STEPS'

    def __post_init__(self) -> None:
        if self.preset_name not in PRESETS:
            raise UserError(f"There is no preset {self.preset_name}; choose one of {', '.join(PRESETS)}.")
        if self.train_on not in ("pod", "trainjob"):
            raise UserError(f"train_on={self.train_on} is not known; choose pod or trainjob.")
        if self.nodes < 1:
            raise UserError(f"nodes={self.nodes} cannot be used; give 1 or more.")
        if self.nodes > 1 and self.train_on == "pod":
            raise UserError(f"nodes={self.nodes} needs train_on=trainjob; a KFP task is a single pod.")
        if self.queue and self.train_on == "pod":
            raise UserError(f"queue={self.queue} needs train_on=trainjob; Kueue knows TrainJobs, and not KFP's pods.")

    @property
    def preset(self) -> Preset:
        """The kind of cluster compiled for."""
        return PRESETS[self.preset_name]

    @property
    def default_pool(self) -> GpuPool:
        """Default values of the pipeline parameters of the GPU pool."""
        preset = self.preset
        return GpuPool(
            accelerator_type=preset.accelerator_type,
            accelerator_count=str(preset.accelerator_count),
            gpu_node_selector=dict(preset.node_selector),
            gpu_tolerations=[dict(toleration) for toleration in preset.tolerations],
            train_cpu=preset.train_cpu,
            train_memory=preset.train_memory,
        )

    def train_job_arguments(self, image: Any, pool: GpuPool) -> dict[str, Any]:
        """What `train_job` takes beside the arguments of `train`."""
        return {
            "image": image,
            "nodes": self.nodes,
            "accelerator_type": pool.accelerator_type,
            "accelerator_count": pool.accelerator_count,
            "node_selector": pool.gpu_node_selector,
            "tolerations": pool.gpu_tolerations,
            "cpu": pool.train_cpu,
            "memory": pool.train_memory,
            "shm_size": self.shm_size,
            "timeout": self.train_timeout,
            "queue": self.queue,
        }

    def apply(self, task: dsl.PipelineTask, step: str, pool: GpuPool) -> None:
        """Set on `task` all that `step` needs; `pool` holds the pipeline's own parameters."""
        resources = STEPS[step].requesting(self.requests.get(step, {}))
        if step in (*GPU_STEPS, "train_job"):
            resources = replace(resources, timeout=self.train_timeout)
        if step in GPU_STEPS:
            self._on_gpu_pool(task, pool)
        else:
            self._off_gpu_pool(task, resources)
        kubernetes.set_timeout(task, resources.timeout)
        if self.retries and resources.retries:
            task.set_retry(
                resources.retries,
                backoff_duration=f"{BACKOFF_SECONDS}s",
                backoff_factor=BACKOFF_FACTOR,
                backoff_max_duration=f"{resources.retry_window}s",
            )
        # Optional, so that a cluster with workload identity needs no keys, and so that a missing secret is a sentence
        # from the store at once, and not a pod that waits for it until its timeout.
        kubernetes.use_secret_as_env(task, STORE_NAME, {key: key for key in STORE_SECRET_KEYS}, optional=True)
        kubernetes.use_config_map_as_env(task, STORE_NAME, {key: key for key in STORE_CONFIG_KEYS}, optional=True)
        kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
        kubernetes.add_pod_label(task, "app.kubernetes.io/name", "bin-counter")
        kubernetes.add_pod_label(task, "app.kubernetes.io/component", step.replace("_", "-"))

    def _on_gpu_pool(self, task: dsl.PipelineTask, pool: GpuPool) -> None:
        # The SDK does not count what these setters are given among the inputs of a task, so inside a group (an exit
        # handler, a loop) the group would lack them, and KFP's driver fails.
        task.register_pipeline_channels(list(pool))
        task.set_cpu_request(pool.train_cpu)
        task.set_cpu_limit(pool.train_cpu)
        task.set_memory_request(pool.train_memory)
        task.set_memory_limit(pool.train_memory)
        if self.preset.accelerator_count:
            task.set_accelerator_type(pool.accelerator_type)
            task.set_accelerator_limit(pool.accelerator_count)
        kubernetes.add_node_selector_json(task, pool.gpu_node_selector)
        kubernetes.add_toleration_json(task, pool.gpu_tolerations)
        # DataLoader workers hand batches over in shared memory; a container has 64 MB of it by default.
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=self.shm_size)  # noqa: S108

    def _off_gpu_pool(self, task: dsl.PipelineTask, resources: StepResources) -> None:
        task.set_cpu_request(resources.cpu[0])
        task.set_cpu_limit(resources.cpu[1])
        task.set_memory_request(resources.memory[0])
        task.set_memory_limit(resources.memory[1])
        if labels := self.preset.gpu_labels:
            absent = [{"key": label, "operator": "DoesNotExist"} for label in labels]
            kubernetes.add_node_affinity(task, match_expressions=absent)


def parse_requests(text: str) -> dict[str, dict[str, str]]:
    """Requests by step from a JSON object. Raises UserError for anything else, and for the steps on the GPU pool."""
    example = '{"evaluate": {"cpu": "2", "memory": "4Gi"}}'
    value = read_json("STEP_REQUESTS", text, example)
    if not isinstance(value, dict) or not all(isinstance(wanted, dict) for wanted in value.values()):
        raise UserError(f"STEP_REQUESTS={text} cannot be used: write an object of steps, like {example}.")
    for step, wanted in value.items():
        if step not in STEPS or step in GPU_STEPS:
            known = ", ".join(name for name in STEPS if name not in GPU_STEPS)
            raise UserError(
                f"STEP_REQUESTS={text} cannot be used: there is no step {step} to set there; there are {known}, and "
                "TRAIN_CPU and TRAIN_MEMORY are for training."
            )
        for name, quantity in wanted.items():
            check = {"cpu": CPU, "memory": MEMORY}.get(name)
            if check is None or not re.fullmatch(check, str(quantity)):
                raise UserError(
                    f"STEP_REQUESTS={text} cannot be used: {name} of {step} should be cpu or memory with a Kubernetes "
                    f"quantity, like {example}."
                )
    return {step: {name: str(quantity) for name, quantity in wanted.items()} for step, wanted in value.items()}
