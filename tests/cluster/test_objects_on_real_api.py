"""What a real API server says of manifests/ and of the objects that the code makes. Needs KUBEBUILDER_ASSETS."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.train_job.jobs import Jobs
from components.train_job.manifest import NAMESPACE, train_job
from tests.cluster.control_plane import STEPS, ControlPlane
from tests.manifests.conftest import FOLDERS, MANIFESTS, OVERLAYS, TRAIN_JOBS, built, overlay, pod_specs
from tests.train_job.test_train_job import ARGUMENTS, POOL

SERVED = ("bin-counter", "bin-counter-serve")
README = (MANIFESTS / "README.md").read_text()

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def remove_what_cannot_change(control_plane: ControlPlane) -> None:
    """The bucket Job, and the store, which overlays differ in."""
    ended = control_plane.kubectl("delete", "job,statefulset", "--all", "--namespace=bin-counter", "--wait=false")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_accepted_as_a_whole(control_plane: ControlPlane, folder: str) -> None:
    remove_what_cannot_change(control_plane)
    told = control_plane.apply(folder)
    assert told.count("serverside-applied") == len(built(folder))
    assert "Warning" not in told
    again = control_plane.apply(folder)
    assert again.count("serverside-applied") == len(built(folder))


def test_other_images_are_applied_as_the_readme_says(control_plane: ControlPlane) -> None:
    def apply(tag: str) -> subprocess.CompletedProcess[str]:
        given = yaml.safe_dump_all(overlay("local")).replace(":dev", f":{tag}")
        return control_plane.kubectl("apply", "--server-side", "-f", "-", given=given)

    remove_what_cannot_change(control_plane)
    assert apply("v1").returncode == 0
    assert "field is immutable" in apply("v2").stderr
    [command] = re.findall(r"^\$ kubectl (-n bin-counter delete job .*)$", README, re.MULTILINE)
    assert control_plane.kubectl(*command.split()).returncode == 0
    ended = apply("v2")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("folder", [*(f"overlays/{name}" for name in OVERLAYS), *TRAIN_JOBS, "store-tls"])
def test_every_pod_is_admitted_by_pod_security(control_plane: ControlPlane, folder: str) -> None:
    if folder in TRAIN_JOBS:
        control_plane.apply(folder)
    for where, spec in pod_specs(built(folder)).items():
        kind, owner = where.split("/")[:2]
        body = next(one for one in built(folder) if (one["kind"], one["metadata"]["name"]) == (kind, owner))
        known = {"containers", "initContainers", "securityContext"}
        claims = [claim["metadata"]["name"] for claim in body["spec"].get("volumeClaimTemplates", [])]
        volumes = [*spec.get("volumes", []), *({"name": claim, "emptyDir": {}} for claim in claims)]
        # KServe and Trainer run their pods as these accounts, where a control plane without controllers has no other.
        namespace, account = ("bin-counter-train", "bin-counter-train") if folder in TRAIN_JOBS else SERVED
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "test-", "namespace": namespace},
            "spec": {"serviceAccountName": account}
            | {key: value for key, value in spec.items() if key in known}
            | {"volumes": volumes},
        }
        ended = control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))
        assert ended.returncode == 0, f"{where}: {ended.stderr}"


def test_a_model_that_is_an_image_is_admitted_by_pod_security(control_plane: ControlPlane) -> None:
    """As KServe mounts oci+native://."""
    [container] = pod_specs(overlay("airgapped"))["ServingRuntime/bin-counter"]["containers"]
    image = {"name": "model", "image": {"reference": "mirror.example/model:1", "pullPolicy": "IfNotPresent"}}
    mount = {"name": "model", "mountPath": "/mnt/models", "subPath": "models", "readOnly": True}
    spec = {
        "serviceAccountName": "bin-counter-serve",
        "containers": [container | {"volumeMounts": [*container["volumeMounts"], mount]}],
        "volumes": [{"name": "scratch", "emptyDir": {}}, image],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test", "namespace": "bin-counter"}, "spec": spec}
    ended = control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(body))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_pod_security_refuses_a_pod_that_is_not_restricted(control_plane: ControlPlane) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test", "namespace": "bin-counter"}}
    spec = {"serviceAccountName": "bin-counter-serve", "containers": [{"name": "one", "image": "example/one:1"}]}
    ended = control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(body | {"spec": spec}))
    assert "violates PodSecurity" in ended.stderr


@pytest.fixture
def jobs(control_plane: ControlPlane) -> Jobs:
    control_plane.apply("train-jobs/local")
    control_plane.kubectl("create", "serviceaccount", "other", f"--namespace={NAMESPACE}")
    time.sleep(1)  # until the admission policies are in force
    return Jobs(Cluster(client.ApiClient(control_plane.configuration(STEPS))), NAMESPACE)


def test_the_steps_account_may_make_find_and_remove_a_train_job_in_its_own_namespace_only(
    control_plane: ControlPlane, jobs: Jobs
) -> None:
    body = train_job("bin-counter-test", replace(POOL, queue="nightly"), ARGUMENTS)
    jobs.create(body)
    made = jobs.get("bin-counter-test")
    assert made is not None
    assert made["spec"]["runtimeRef"] == body["spec"]["runtimeRef"]
    assert jobs.pods("bin-counter-test") == []
    jobs.delete("bin-counter-test")
    assert jobs.get("bin-counter-test") is None
    for namespace in ("kubeflow", "bin-counter"):
        with pytest.raises(UserError, match="We may not create"):
            Jobs(jobs.cluster, namespace).create(body)


def attacked(change: Callable[..., Any]) -> dict[str, Any]:
    """A TrainJob like ours, with something in its pods that it should not have."""
    body = train_job("bin-counter-attack", POOL, ARGUMENTS)
    patch = body["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    change(body["spec"], patch["template"]["spec"]["template"]["spec"])
    return body


SECRET = {"name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": "other", "key": "password"}}}
ATTACKS = {
    "account": (lambda _, pod: pod.update(serviceAccountName="bin-counter-pipeline"), "names no account"),
    "secret": (lambda _, pod: pod["containers"][0].update(env=[SECRET]), "takes no variable from a Secret"),
    "secret for the trainer": (lambda spec, _: spec["trainer"].update(env=[SECRET]), "takes no variable from a Secret"),
    "secret volume": (
        lambda _, pod: pod["volumes"].append({"name": "stolen", "secret": {"secretName": "other"}}),
        "brings no volume",
    ),
    "host path": (
        lambda _, pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "brings no volume",
    ),
    "privileged": (
        lambda _, pod: pod["containers"][0].update(securityContext={"privileged": True}),
        "changes no security context",
    ),
    "security context": (lambda _, pod: pod.update(securityContext={"runAsUser": 0}), "changes no security context"),
    "init container": (lambda _, pod: pod.update(initContainers=[{"name": "first"}]), "brings no init container"),
    "other runtime": (
        lambda spec, _: spec["runtimeRef"].update(name="torch-distributed"),
        "runs in the ClusterTraining",
    ),
    "initializer": (
        lambda spec, _: spec.update(initializer={"dataset": {"storageUri": "hf://x/y"}}),
        "has no initializer",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_train_job_that_reaches_for_more_is_refused(jobs: Jobs, attack: str) -> None:
    change, reason = ATTACKS[attack]
    with pytest.raises(UserError, match=reason):
        jobs.create(attacked(change))
    assert jobs.get("bin-counter-attack") is None


PODS = {
    "account": ({"serviceAccountName": "other"}, {}, "runs as bin-counter-train"),
    "secret": ({}, {"env": [SECRET]}, "reads no Secret but bin-counter-store"),
    "all of a secret": ({}, {"envFrom": [{"secretRef": {"name": "other"}}]}, "reads no Secret but bin-counter-store"),
    "secret volume": ({"volumes": [{"name": "x", "secret": {"secretName": "other"}}]}, {}, "no volume but one of its"),
    "host path": ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, {}, "no volume but one of its|PodSecurity"),
    "privileged": ({}, {"securityContext": {"privileged": True}}, "PodSecurity|by cluster policy"),
}


@pytest.mark.parametrize("attack", PODS)
def test_a_pod_that_reaches_for_more_is_refused_whatever_makes_it(
    control_plane: ControlPlane, jobs: Jobs, attack: str
) -> None:
    of_pod, of_container, reason = PODS[attack]
    assert isinstance(of_pod, dict)
    [spec] = pod_specs(built("train-jobs/local")).values()
    allowed = {key: value for key, value in spec.items() if key != "restartPolicy"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test", "namespace": NAMESPACE}}

    def create(spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        given = json.dumps(pod | {"spec": spec})
        return control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=given)

    assert create(allowed).returncode == 0
    [container] = allowed["containers"]
    refused = create(allowed | {"containers": [container | of_container]} | _more(allowed, of_pod))
    assert refused.returncode != 0
    assert re.search(reason, refused.stderr), refused.stderr


def _more(spec: dict[str, Any], of_pod: dict[str, Any]) -> dict[str, Any]:
    volumes = {"volumes": [*spec["volumes"], *of_pod["volumes"]]} if "volumes" in of_pod else {}
    return of_pod | volumes
