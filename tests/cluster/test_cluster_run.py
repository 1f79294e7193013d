"""How a run on a cluster is taken apart into steps. Names of nodes as Argo 4.0.5 gave them."""

from benchmarks.cluster_run import Pod, read_pod, step_times
from tests.cluster.acceptance.site import Object


def pod_object(node: str, main: Object) -> Object:
    return {
        "metadata": {
            "name": "bin-counter-7548s-1",
            "creationTimestamp": "2026-11-26T02:42:00Z",
            "annotations": {"workflows.argoproj.io/node-name": node},
        },
        "status": {"containerStatuses": [{"name": "wait", "state": {}}, {"name": "main", "state": main}]},
    }


ENDED = {"terminated": {"startedAt": "2026-11-26T02:42:10Z", "finishedAt": "2026-11-26T02:44:00Z"}}


def test_a_pod_tells_its_step_and_whether_it_is_kfp_s_driver() -> None:
    inside = "bin-counter-7548s(0).root(0).exit-handler-1(0)"
    ours = read_pod(pod_object(f"{inside}.train(0).executor(0)", ENDED))
    driver = read_pod(pod_object(f"{inside}.ingest-metadata-driver(0)", ENDED))
    assert ours is not None
    assert driver is not None
    assert (ours.step, ours.is_driver, ours.ended - ours.began) == ("train", False, 110.0)
    assert (driver.step, driver.is_driver) == ("ingest-metadata", True)


def test_a_pod_that_has_not_ended_tells_nothing() -> None:
    assert read_pod(pod_object("a(0).train(0).executor(0)", {"running": {}})) is None


def test_a_step_is_its_pods_from_the_first_made_to_the_last_ended() -> None:
    pods = [
        Pod("driver", "train", True, made=0, began=3, ended=5),
        Pod("lost", "train", False, made=6, began=10, ended=20),
        Pod("again", "train", False, made=21, began=25, ended=60),
        Pod("only a driver", "split", True, made=0, began=1, ended=2),
    ]
    [train] = step_times(pods, {"lost": 100.0, "again": 300.0})
    assert (train.step, train.seconds, train.ours, train.driver, train.rest) == ("train", 60, 45, 5, 10)
    assert (train.peak_megabytes, train.attempts) == (300.0, 2)
