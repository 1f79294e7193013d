"""Runs that cannot go well: what `make submit` says of each, and how soon."""

import json
import time

import pytest

from tests.cluster.acceptance.conftest import Story
from tests.cluster.acceptance.runs import pods_of, submit
from tests.cluster.acceptance.site import Site, eventually, kubectl

REASON_SECONDS = 60.0
NO_SUCH_NODE = {"acceptance.bin-counter/pool": "nowhere"}


def cancel(site: Site, run_id: str) -> None:
    site.kfp(f"/apis/v2beta1/runs/{run_id}:terminate", method="POST")


def test_a_wrong_bucket_is_the_step_s_own_sentence_and_not_tried_again(bins: Site) -> None:
    submission = submit(bins, "SOURCE=s3://acceptance-no-such-bucket")
    assert submission.ended() != 0
    assert "acceptance-no-such-bucket" in submission.output
    failed = pods_of(bins, submission.run()["run_id"])
    assert [len(pods) for step, pods in failed.items() if step == "ingest-metadata"] in ([1], []), "tried again"


def test_a_missing_secret_is_named(bins: Site) -> None:
    """The Secret of the runs' namespace is away for the length of this step."""
    kept = json.loads(kubectl("-n", bins.runs_namespace, "get", "secret", "bin-counter-store", "-o", "json"))
    kept["metadata"] = {key: kept["metadata"][key] for key in ("name", "namespace")}
    kubectl("-n", bins.runs_namespace, "delete", "secret", "bin-counter-store")
    try:
        submission = submit(bins, "SEED=101")
        submission.said(r"bin-counter-store", 300)
        cancel(bins, submission.run()["run_id"])
        assert submission.ended(300) != 0
    finally:
        kubectl("apply", "-f", "-", given=json.dumps(kept))


def test_an_unschedulable_pool_is_told_in_the_scheduler_s_words(story: Story) -> None:
    story.first()
    site = story.site
    submission = submit(site, "SEED=102", f"GPU_NODE_SELECTOR={json.dumps(NO_SUCH_NODE)}", "EPOCHS=4")
    waiting = eventually("a pod that waits for a node", lambda: _pending(site, submission.run()["run_id"]), 900)
    since = time.monotonic()
    submission.said(r"0/\d+ nodes are available", 2 * REASON_SECONDS)
    assert time.monotonic() - since < REASON_SECONDS, f"{waiting} was told late"
    cancel(site, submission.run()["run_id"])
    assert submission.ended(300) != 0


def _pending(site: Site, run_id: str) -> str:
    for pods in pods_of(site, run_id).values():
        for pod in pods:
            conditions = pod["status"].get("conditions", [])
            if any(one.get("reason") == "Unschedulable" for one in conditions):
                return str(pod["metadata"]["name"])
    return ""


def test_an_image_that_does_not_exist_is_told_in_the_kubelet_s_words(bins: Site) -> None:
    submission = submit(bins, "SEED=103", options=("--tag", "acceptance-no-such-tag"))
    submission.said(r"acceptance-no-such-tag|ImagePullBackOff|ErrImagePull", 300)
    cancel(bins, submission.run()["run_id"])
    assert submission.ended(300) != 0


def test_a_cancelled_run_ends_as_cancelled(bins: Site) -> None:
    submission = submit(bins, "SEED=104")
    submission.said(r"ingest-metadata", 300)
    cancel(bins, submission.run()["run_id"])
    assert submission.ended(300) != 0
    assert "cancel" in submission.output.lower()


def test_a_deleted_pod_is_made_again(story: Story) -> None:
    story.first()
    site = story.site
    submission = submit(site, "SEED=105", "EPOCHS=5")
    run_id = submission.run()["run_id"]
    pod = eventually("a running pod of train", lambda: _running(site, run_id, "train"), 900)
    kubectl("-n", site.runs_namespace, "delete", "pod", pod)
    assert submission.ended() == 0, submission.output
    assert pod not in _names(site, run_id, "train") or len(_names(site, run_id, "train")) > 1


def _names(site: Site, run_id: str, step: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods_of(site, run_id).get(step, [])]


def _running(site: Site, run_id: str, step: str) -> str:
    pods = pods_of(site, run_id).get(step, [])
    return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), "")


@pytest.mark.slow
def test_a_pod_deleted_after_sixteen_minutes_is_made_again(bins: Site) -> None:
    """KFP's backoff window counts from the first attempt's start."""
    submission = submit(bins, "SEED=106", f"GPU_NODE_SELECTOR={json.dumps(NO_SUCH_NODE)}")
    run_id = submission.run()["run_id"]
    first = eventually("a pod that waits for a node", lambda: _pending(bins, run_id), 900)
    time.sleep(16 * 60)
    kubectl("-n", bins.runs_namespace, "delete", "pod", first)
    eventually("another pod in its place", lambda: _pending(bins, run_id) not in ("", first), 300)
    cancel(bins, run_id)
    assert submission.ended(300) != 0
