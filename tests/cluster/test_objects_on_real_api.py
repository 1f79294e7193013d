"""What a real API server says of manifests/ and of the objects that the code makes. Needs KUBEBUILDER_ASSETS."""

import json
import re

import pytest
import yaml
from kubernetes import client

from components.core.cluster import Cluster
from components.train_job.jobs import Jobs
from components.train_job.manifest import train_job
from tests.cluster.control_plane import STEPS
from tests.manifests.conftest import MANIFESTS, OVERLAYS, built, overlay, pod_specs
from tests.train_job.test_train_job import ARGUMENTS, POOL

README = (MANIFESTS / "README.md").read_text()

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def remove_what_cannot_change(control_plane):
    """The bucket Job, and the store, which overlays differ in."""
    ended = control_plane.kubectl("delete", "job,statefulset", "--all", "--namespace=bin-counter", "--wait=false")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("folder", [*(f"overlays/{name}" for name in OVERLAYS), "inference-service", "store-kfp"])
def test_every_folder_is_accepted_as_a_whole(control_plane, folder):
    remove_what_cannot_change(control_plane)
    told = control_plane.apply(folder)
    assert told.count("serverside-applied") == len(built(folder))
    assert "Warning" not in told
    again = control_plane.apply(folder)
    assert again.count("serverside-applied") == len(built(folder))


def test_other_images_are_applied_as_the_readme_says(control_plane):
    def apply(tag):
        given = yaml.safe_dump_all(overlay("local")).replace(":dev", f":{tag}")
        return control_plane.kubectl("apply", "--server-side", "-f", "-", given=given)

    remove_what_cannot_change(control_plane)
    assert apply("v1").returncode == 0
    assert "field is immutable" in apply("v2").stderr
    [command] = re.findall(r"^\$ kubectl (-n bin-counter delete job .*)$", README, re.MULTILINE)
    assert control_plane.kubectl(*command.split()).returncode == 0
    ended = apply("v2")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_admitted_by_pod_security(control_plane, name):
    for where, spec in pod_specs(overlay(name)).items():
        kind, owner = where.split("/")[:2]
        body = next(one for one in overlay(name) if (one["kind"], one["metadata"]["name"]) == (kind, owner))
        namespace = body["metadata"].get("namespace", "kubeflow")
        known = {"containers", "initContainers", "securityContext"}
        claims = [claim["metadata"]["name"] for claim in body["spec"].get("volumeClaimTemplates", [])]
        volumes = [*spec.get("volumes", []), *({"name": claim, "emptyDir": {}} for claim in claims)]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "test-", "namespace": namespace},
            # KServe and Trainer run their pods as these accounts; a control plane without controllers has no other.
            "spec": {"serviceAccountName": "bin-counter-train" if namespace == "kubeflow" else "bin-counter-serve"}
            | {key: value for key, value in spec.items() if key in known}
            | {"volumes": volumes},
        }
        ended = control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))
        assert ended.returncode == 0, f"{where}: {ended.stderr}"


def test_pod_security_refuses_a_pod_that_is_not_restricted(control_plane):
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test", "namespace": "bin-counter"}}
    spec = {"serviceAccountName": "bin-counter-serve", "containers": [{"name": "one", "image": "example/one:1"}]}
    ended = control_plane.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(body | {"spec": spec}))
    assert "violates PodSecurity" in ended.stderr


def test_the_steps_account_may_make_find_and_remove_a_train_job(control_plane):
    remove_what_cannot_change(control_plane)
    control_plane.apply("overlays/local")
    jobs = Jobs(Cluster(client.ApiClient(control_plane.configuration(STEPS))), "kubeflow")
    body = train_job("bin-counter-test", POOL, ARGUMENTS)
    jobs.create(body)
    assert jobs.get("bin-counter-test")["spec"]["runtimeRef"] == body["spec"]["runtimeRef"]
    assert jobs.pods("bin-counter-test") == []
    jobs.delete("bin-counter-test")
    assert jobs.get("bin-counter-test") is None
