"""The TrainJob that trains on the GPU pool, on top of the ClusterTrainingRuntime of manifests/train-jobs."""

from dataclasses import dataclass
from typing import Any

from components.core.cluster import Object
from components.core.layout import MODEL_NAME

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
PLURAL = "trainjobs"
# Not the namespace of the run: whoever may make TrainJobs makes pods with any account and Secret of a namespace.
NAMESPACE = f"{MODEL_NAME}-train"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
RUNTIME = MODEL_NAME
CONTAINER = "node"
JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"


@dataclass(frozen=True)
class Pool:
    """Where and on what the pods run."""

    image: str
    nodes: int
    accelerator_type: str
    accelerator_count: int  # of each node; 0 trains on CPUs
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    cpu: str
    memory: str
    shm_size: str
    timeout: int  # seconds
    queue: str = ""  # Kueue's LocalQueue that admits the job; empty: it starts at once


def train_job(name: str, pool: Pool, arguments: list[str]) -> Object:
    """The TrainJob object: `arguments` are those of components.train_job.worker."""
    resources = {"cpu": pool.cpu, "memory": pool.memory}
    if pool.accelerator_count:
        resources[pool.accelerator_type] = str(pool.accelerator_count)
    placed: Object = {
        "containers": [{"name": CONTAINER}],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": pool.shm_size}}],
    }
    if pool.node_selector:
        placed["nodeSelector"] = pool.node_selector
    if pool.tolerations:
        placed["tolerations"] = pool.tolerations
    pods = {"spec": {"template": {"spec": placed}}}
    labels = {"app.kubernetes.io/name": MODEL_NAME} | ({QUEUE_LABEL: pool.queue} if pool.queue else {})
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            # Whatever becomes of the launcher, the GPUs are free again after this.
            "activeDeadlineSeconds": pool.timeout,
            "trainer": {
                "image": pool.image,
                "args": ["components.train_job.worker", *arguments],
                "numNodes": pool.nodes,
                "numProcPerNode": max(1, pool.accelerator_count),
                "resourcesPerNode": {"requests": resources, "limits": resources},
            },
            "runtimePatches": [
                {
                    "manager": "bin-counter/train-job",
                    "trainingRuntimeSpec": {
                        "template": {"spec": {"replicatedJobs": [{"name": CONTAINER, "template": pods}]}}
                    },
                }
            ],
        },
    }
