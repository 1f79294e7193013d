"""Runs that go well: whole, from the cache, partly from the cache, kept by the gate, tuned."""

from tests.cluster.acceptance.conftest import Story
from tests.cluster.acceptance.runs import NEVER_CACHED, STEPS, steps_with_pods
from tests.cluster.acceptance.site import MODELS_NAMESPACE, find


def served_version(story: Story) -> str:
    service = find("inferenceservice", MODELS_NAMESPACE, story.site.name)
    assert service, "the run deployed nothing"
    uri: str = service["spec"]["predictor"]["model"]["storageUri"]
    return uri.rstrip("/").rsplit("/", 1)[1]


def test_a_run_completes(story: Story) -> None:
    submission, run = story.first()
    assert submission.process.returncode == 0, submission.output
    assert run["state"] == "SUCCEEDED"
    assert steps_with_pods(story.site, run["run_id"]) == set(STEPS)
    assert served_version(story) in submission.output


def test_the_same_again_runs_only_what_is_never_cached(story: Story) -> None:
    story.first()
    submission, run = story.run("again")
    assert submission.process.returncode == 0, submission.output
    assert steps_with_pods(story.site, run["run_id"]) <= NEVER_CACHED
    assert {"champion", "summarise"} <= steps_with_pods(story.site, run["run_id"])


def test_other_epochs_run_train_and_what_follows(story: Story) -> None:
    story.first()
    submission, run = story.run("epochs", "EPOCHS=3", "FORCE=true")
    assert submission.process.returncode == 0, submission.output
    assert steps_with_pods(story.site, run["run_id"]) == set(STEPS) - {"ingest-metadata", "split", "download"}
    assert served_version(story) in submission.output


def test_the_gate_keeps_what_is_better_and_submit_says_so(story: Story) -> None:
    story.first()
    before = served_version(story)
    submission, run = story.run("kept", "MARGIN=0.99")
    assert submission.process.returncode == 0, submission.output
    assert "deploy" not in steps_with_pods(story.site, run["run_id"])
    assert served_version(story) == before
    assert "kept" in submission.output.lower() or "keeps" in submission.output.lower()


def test_tuning_completes_twice(story: Story) -> None:
    for name in ("tuned", "tuned again"):
        submission, _ = story.run(name, "TUNE=true", "TRIALS=2", "EPOCHS=1")
        assert submission.process.returncode == 0, submission.output
