"""Runs as a user starts them, `python -m pipeline submit`, and what KFP and Kubernetes then say of them."""

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.acceptance.site import Object, Site, eventually, objects

RUN_SECONDS = 1500.0
STEPS = ("ingest-metadata", "split", "download", "train", "evaluate", "champion", "gate", "deploy", "summarise")
NEVER_CACHED = {"champion", "deploy", "summarise"}
EXECUTOR = re.compile(r"\.([a-z-]+)(?:\(\d+\))?\.executor(?:\(\d+\))?$")


@dataclass
class Submission:
    """A running `make submit`, its lines as they come."""

    site: Site
    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.started, line.rstrip("\n")))

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "\n".join(line for _, line in list(self.lines))

    def said(self, pattern: str, seconds: float) -> float:
        """Seconds after the start at which a line matched; fails the test when none does in time."""

        def look() -> float | None:
            return next((when for when, line in list(self.lines) if re.search(pattern, line)), None)

        return float(eventually(f"a line like /{pattern}/ in\n{self.output}\n", look, seconds))

    def ended(self, seconds: float = RUN_SECONDS) -> int:
        """The exit status, once it is there."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end within {seconds:.0f} s:\n{self.output}") from None
        self._reader.join(10)
        return status

    def run(self) -> Object:
        """The newest run of this experiment, as KFP's API tells it."""
        found = eventually("a run in KFP", lambda: newest_run(self.site), 120)
        return dict(found)


def submit(site: Site, *assignments: str, options: tuple[str, ...] = (), deploy: Object | None = None) -> Submission:
    """Start `python -m pipeline submit` on drawn bins with the frozen recipe, under the suite's own names."""
    given = {word.partition("=")[0] for word in assignments}
    defaults = {
        "SOURCE": site.source,
        "DATA_URI": site.data_uri,
        "MODELS_URI": site.models_uri,
        "RECIPE": "frozen",
        "EPOCHS": "2",
        "TRAIN_CPU": "2",
        "TRAIN_MEMORY": "4Gi",
        "DEPLOY_OPTIONS": json.dumps(site.deploy_options | (deploy or {})),
    }
    words = [*assignments, *(f"{name}={value}" for name, value in defaults.items() if name not in given)]
    flags = ["--host", site.kfp_host, "--experiment", site.name, "--tag", site.tag, "--registry", site.registry]
    command = [sys.executable, "-u", "-m", "pipeline", "submit", *flags, *options, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Submission(site, process)


def newest_run(site: Site) -> Object | None:
    """The run of the suite's experiment that was made last."""
    experiments = site.kfp("/apis/v2beta1/experiments?page_size=200").get("experiments", [])
    own = [one["experiment_id"] for one in experiments if one["display_name"] == site.name]
    if not own:
        return None
    path = f"/apis/v2beta1/runs?experiment_id={own[0]}&sort_by=created_at%20desc&page_size=1"
    runs: list[Object] = site.kfp(path).get("runs", [])
    return runs[0] if runs else None


def pods_of(site: Site, run_id: str) -> dict[str, list[Object]]:
    """The pods in which our own steps ran, by step; a step that the cache answered has none."""
    found: dict[str, list[Object]] = {}
    for pod in objects("pods", site.runs_namespace, f"pipeline/runid={run_id}"):
        node: str = pod["metadata"].get("annotations", {}).get("workflows.argoproj.io/node-name", "")
        step = EXECUTOR.search(node)
        if step:
            found.setdefault(step[1], []).append(pod)
    return found


def steps_with_pods(site: Site, run_id: str) -> set[str]:
    """Names of the steps that ran in a pod."""
    return set(pods_of(site, run_id))


def workflow_nodes(site: Site, run_id: str) -> dict[str, Any]:
    """Argo's nodes of a run, out of the only one of KFP's answers that has them."""
    answer = site.kfp(f"/apis/v1beta1/runs/{run_id}")
    nodes: dict[str, Any] = json.loads(answer["pipeline_runtime"]["workflow_manifest"])["status"].get("nodes", {})
    return nodes
