"""A recurring run fires, and looks at what its source holds then."""

import subprocess
import sys

from tests.cluster.acceptance.conftest import Story, fill_source
from tests.cluster.acceptance.runs import newest_run, steps_with_pods
from tests.cluster.acceptance.site import Object, Site, eventually

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
MORE_BINS = 330


def test_a_recurring_run_fires_and_reads_what_is_new(story: Story) -> None:
    _, first = story.first()
    site = story.site
    parameters = first["runtime_config"]["parameters"]
    names = ("source", "data_uri", "models_uri", "recipe", "epochs", "train_cpu", "train_memory", "deploy_options")
    words = [f"{name.upper()}={parameters[name]}" for name in names]
    flags = ["--host", site.kfp_host, "--experiment", site.name, "--tag", site.tag, "--registry", site.registry]
    fill_source(site, MORE_BINS)
    command = [sys.executable, "-m", "pipeline", "schedule", *flags, "--cron", "* * * * *", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        fired = eventually("a run by the schedule", lambda: _other(site, first), 180)
    finally:
        stop_schedules(site)
    run = eventually("its end", lambda: _ended(site, fired["run_id"]), 1200, pause=5)
    assert run["state"] == "SUCCEEDED"
    assert "ingest-metadata" in steps_with_pods(site, fired["run_id"]), "what is new was not looked at"


def _other(site: Site, than: Object) -> Object | None:
    newest = newest_run(site)
    return newest if newest and newest.get("recurring_run_id") and newest["run_id"] != than["run_id"] else None


def _ended(site: Site, run_id: str) -> Object | None:
    run = site.kfp(f"/apis/v2beta1/runs/{run_id}")
    return run if run["state"] in ENDED else None


def stop_schedules(site: Site) -> None:
    """Remove the recurring runs of the suite's experiment."""
    experiments = site.kfp("/apis/v2beta1/experiments?page_size=200").get("experiments", [])
    for experiment in (one["experiment_id"] for one in experiments if one["display_name"] == site.name):
        found = site.kfp(f"/apis/v2beta1/recurringruns?experiment_id={experiment}").get("recurringRuns", [])
        for one in found:
            site.kfp(f"/apis/v2beta1/recurringruns/{one['recurring_run_id']}", method="DELETE")
