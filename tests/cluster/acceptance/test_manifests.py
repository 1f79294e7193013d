"""The manifests on this cluster: what they promise, and what the API server refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.acceptance.site import MODELS_NAMESPACE, Object, has_api, kubectl, objects

ROOT = Path(__file__).parents[3]
TRAINING_NAMESPACE = "bin-counter-train"
RUNNER = "system:serviceaccount:kubeflow:bin-counter-pipeline"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def dry_run(*words: str) -> str:
    """Output and complaints of `kubectl apply --server-side --dry-run=server`."""
    command = ["kubectl", "apply", "--server-side", "--dry-run=server", "--force-conflicts", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def test_the_overlay_applies_as_the_readme_says(kserve: None) -> None:
    """Nothing but the bucket Job, which cannot change, may stand in the way."""
    output = dry_run("-k", "manifests/overlays/local")
    complaints = [line for line in output.splitlines() if "no matches for kind" in line or "rror" in line]
    assert [line for line in complaints if "bin-counter-buckets" not in line] == []


def test_every_pod_of_the_store_and_the_models_passes_restricted(cluster: None) -> None:
    labels = json.loads(kubectl("get", "namespace", MODELS_NAMESPACE, "-o", "jsonpath={.metadata.labels}"))
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert objects("pods", MODELS_NAMESPACE)


def train_job(**pod: object) -> str:
    """A TrainJob whose pods would get these fields."""
    patch = {
        "manager": "acceptance.bin-counter/attack",
        "trainingRuntimeSpec": {
            "template": {
                "spec": {
                    "replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": pod}}}}],
                }
            }
        },
    }
    return json.dumps(
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": "acceptance-attack", "namespace": TRAINING_NAMESPACE},
            "spec": {"runtimeRef": {"name": "bin-counter"}, "runtimePatches": [patch]},
        }
    )


@pytest.fixture
def training(cluster: None) -> None:
    """A cluster with Trainer, and a namespace for its jobs."""
    if not has_api("trainer.kubeflow.org"):
        pytest.skip("the cluster has no Kubeflow Trainer")
    if TRAINING_NAMESPACE not in kubectl("get", "namespaces", "-o", "name"):
        pytest.skip(f"manifests/train-jobs is not applied: no namespace {TRAINING_NAMESPACE}")


def test_a_train_job_finds_no_foreign_account_or_secret(training: None) -> None:
    """Whoever may make TrainJobs may make pods of the namespace: there must be nothing in it worth taking."""
    accounts = {one["metadata"]["name"] for one in objects("serviceaccounts", TRAINING_NAMESPACE)}
    assert accounts <= {"default", "bin-counter-train"}
    secrets = {one["metadata"]["name"] for one in objects("secrets", TRAINING_NAMESPACE)}
    assert secrets <= {"bin-counter-store"}


@pytest.mark.parametrize(
    ("attack", "pod"),
    [
        ("hostPath", {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        ("hostNetwork", {"hostNetwork": True}),
        ("privileged", {"containers": [{"name": "node", "securityContext": {"privileged": True}}]}),
    ],
)
def test_a_pod_beyond_restricted_is_refused_where_train_jobs_run(training: None, attack: str, pod: Object) -> None:
    """Pod Security has the last word, whatever the TrainJob's patches say."""
    containers = pod.get("containers", [{"name": "node", "securityContext": RESTRICTED}])
    for container in containers:
        container["image"] = "acceptance-attack"
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "acceptance-attack", "namespace": TRAINING_NAMESPACE},
        "spec": {**pod, "containers": containers},
    }
    command = ["kubectl", "create", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr, done.stderr


def test_runs_may_make_train_jobs_only_in_their_own_namespace(training: None) -> None:
    def may(namespace: str) -> str:
        return kubectl("auth", "can-i", "create", "trainjobs", "-n", namespace, "--as", RUNNER, check=False).split()[0]

    assert may(TRAINING_NAMESPACE) == "yes"
    assert may(MODELS_NAMESPACE) == may("kubeflow") == "no"


def test_a_train_job_with_a_foreign_account_is_refused(training: None) -> None:
    command = ["kubectl", "create", "--dry-run=server", "--as", RUNNER, "-f", "-"]
    body = train_job(serviceAccountName="default")
    done = subprocess.run(command, input=body, capture_output=True, text=True)
    assert done.returncode != 0, "accepted"


def test_a_published_version_serves_by_kubectl_apply_alone(kserve: None) -> None:
    """`make manifests VERSION=…` writes an InferenceService that the API server takes."""
    command = [sys.executable, "-m", "pipeline", "manifests", "--overlay", "local", "--version", "0123456789ab"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    output = dry_run("-f", "build/inference-service.yaml")
    assert output.startswith("0"), output
    assert "inferenceservice.serving.kserve.io/bin-counter" in output
