"""Other ways to the same runs: versions by kubectl, training by a TrainJob, a GPU that a node claims, several users."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.acceptance.conftest import Story
from tests.cluster.acceptance.runs import newest_run, pods_of, submit
from tests.cluster.acceptance.site import Site, eventually, has_api, kubectl, objects

GPU = "nvidia.com/gpu"
TRAINING_NAMESPACE = "bin-counter-train"


def versions(site: Site) -> list[str]:
    """Names of the uploaded versions of the pipeline."""
    found = site.kfp("/apis/v2beta1/pipelines?page_size=200").get("pipelines", [])
    pipelines = [one["pipeline_id"] for one in found if one["display_name"] == "bin-counter"]
    path = "/apis/v2beta1/pipelines/{}/versions?page_size=200"
    answers = [site.kfp(path.format(one)).get("pipeline_versions", []) for one in pipelines]
    return [version["display_name"] for answer in answers for version in answer]


def test_submit_uses_a_version_that_is_there_already(story: Story) -> None:
    """In whichever storage mode this KFP runs; whatever made the version."""
    story.first()
    before = versions(story.site)
    submission = submit(story.site, options=("--no-follow",))
    assert submission.ended(300) == 0, submission.output
    assert versions(story.site) == before


def test_submit_uses_a_version_that_kubectl_applied(bins: Site) -> None:
    if bins.kfp("/apis/v2beta1/healthz").get("pipeline_store") != "kubernetes":
        pytest.skip("this KFP keeps its pipelines in its database")
    flags = ["--tag", bins.tag, "--registry", bins.registry, "--shm-size", "257Mi", "--namespace", bins.runs_namespace]
    command = [sys.executable, "-m", "pipeline", "compile", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kubectl("apply", "-f", "build/pipeline-k8s.yaml")
    before = versions(bins)
    submission = submit(bins, options=("--no-follow", "--shm-size", "257Mi"))
    assert submission.ended(300) == 0, submission.output
    assert versions(bins) == before


def test_training_by_a_train_job_with_two_nodes(story: Story) -> None:
    """A pod of the TrainJob is deleted on the way; the run completes all the same."""
    if not has_api("trainer.kubeflow.org"):
        pytest.skip("the cluster has no Kubeflow Trainer")
    story.first()
    site = story.site
    options = ("--train-on", "trainjob", "--nodes", "2")
    submission = submit(site, "EPOCHS=4", "FORCE=true", options=options)
    pod = eventually("a running pod of the TrainJob", _training_pod, 900)
    kubectl("-n", TRAINING_NAMESPACE, "delete", "pod", pod, "--wait=false")
    assert submission.ended() == 0, submission.output


def _training_pod() -> str:
    pods = objects("pods", TRAINING_NAMESPACE)
    return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), "")


@pytest.fixture
def claimed_gpu(cluster: None) -> Iterator[str]:
    """A node whose status claims a GPU for the length of a step; a cluster with real ones is left alone."""
    nodes = objects("nodes")
    if any(GPU in node["status"]["capacity"] for node in nodes):
        pytest.skip("the cluster has GPUs of its own")
    name = nodes[0]["metadata"]["name"]
    path = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
    kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", json.dumps(path))
    yield name
    path = [{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]
    kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", json.dumps(path), check=False)


def test_the_gpu_pool_is_asked_for(story: Story, claimed_gpu: str) -> None:
    """Limit, selector, toleration and /dev/shm of a GPU preset, on the pod itself."""
    story.first()
    site = story.site
    selector = json.dumps({"kubernetes.io/hostname": claimed_gpu})
    words = ("EPOCHS=6", "ACCELERATOR_COUNT=1", f"ACCELERATOR_TYPE={GPU}", f"GPU_NODE_SELECTOR={selector}")
    submission = submit(site, *words, options=("--preset", "gke"))
    run_id = submission.run()["run_id"]
    [pod, *_] = eventually("a pod of train", lambda: pods_of(site, run_id).get("train"), 900)
    main = next(one for one in pod["spec"]["containers"] if one["name"] == "main")
    try:
        assert main["resources"]["limits"][GPU] == "1"
        assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": claimed_gpu}
        assert any(one.get("key") == GPU for one in pod["spec"]["tolerations"])
        assert any(one["mountPath"] == "/dev/shm" for one in main["volumeMounts"])
    finally:
        site.kfp(f"/apis/v2beta1/runs/{run_id}:terminate", method="POST")
        submission.ended(300)


def test_a_driver_that_fails_is_named(bins: Site) -> None:
    """A node selector that is no object of strings makes KFP's own driver fail, not a step."""
    submission = submit(bins, "SEED=107", 'GPU_NODE_SELECTOR={"a b": "not a label"}')
    assert submission.ended() != 0
    assert "FAILED" in submission.output
    run = newest_run(bins)
    assert run
    assert run["state"] == "FAILED"


def test_several_users_are_let_in_by_a_token(site: Site) -> None:
    if not site.kfp("/apis/v2beta1/healthz").get("multi_user"):
        pytest.skip("this KFP has no users with namespaces of their own")
    submission = submit(site, options=("--no-follow", "--namespace", site.runs_namespace))
    assert submission.ended(300) == 0, submission.output
