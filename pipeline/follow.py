"""Follow a run on a cluster in the terminal, step by step, to its end."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.core.errors import UserError
from components.core.registry import Registry
from pipeline.connection import Server, explained
from pipeline.resources import STEPS

if TYPE_CHECKING:
    import kfp

POLL_SECONDS = 5.0
# A laptop's connection may be away for a while; the run goes on without it.
PATIENCE_SECONDS = 300.0
# A pod that has not started by then may never: no node fits, or its image cannot be pulled.
START_SECONDS = 300.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
WORDS = {
    "PENDING": "waits",
    "RUNNING": "runs",
    "SUCCEEDED": "done",
    "SKIPPED": "unchanged or not needed",
    "FAILED": "FAILED",
    "CANCELING": "is being stopped",
    "CANCELED": "stopped",
    "PAUSED": "paused",
}


@dataclass(frozen=True)
class Step:
    """One of our own steps in a run; `key` tells the trials of a study apart, which all have one name."""

    key: str
    name: str
    state: str
    error: str


def follow(client: "kfp.Client", server: Server, run_id: str, poll_seconds: float = POLL_SECONDS) -> int:
    """Print every change of a step until the run ends; returns 0 if it succeeded, else 1.

    Ctrl-C ends the following, not the run. Raises UserError when KFP stays away for minutes.
    """
    address = f"{server.host}/#/runs/details/{run_id}"
    seen: dict[str, str] = {}
    waiting: dict[str, float] = {}
    try:
        while True:
            run = _patiently(client, server, run_id, poll_seconds)
            steps = _steps(run)
            for step in steps:
                if seen.get(step.key) != step.state:
                    seen[step.key] = step.state
                    print(f"  {step.name:18} {WORDS.get(step.state, step.state)}", flush=True)
            _warn_of_waiting(steps, waiting, server)
            if run.state in ENDED:
                return _end(run, address)
            time.sleep(poll_seconds)
    except KeyboardInterrupt:
        print(f"\nNo longer following; the run goes on: {address}")
        return 130


def _warn_of_waiting(steps: list[Step], waiting: dict[str, float], server: Server) -> None:
    """Say once that a step does not start, and how to see why."""
    for step in steps:
        if step.state != "PENDING":
            waiting.pop(step.key, None)
            continue
        since = waiting.setdefault(step.key, time.monotonic())
        if time.monotonic() - since > START_SECONDS:
            waiting[step.key] = math.inf
            print(
                f"  {step.name} has waited {START_SECONDS / 60:.0f} minutes for a node or its image; "
                f"kubectl -n {server.namespace or 'kubeflow'} get events --field-selector type=Warning says why. "
                "For training compare PRESET, ACCELERATOR_TYPE and GPU_NODE_SELECTOR with the node pool.",
                flush=True,
            )


def _patiently(client: "kfp.Client", server: Server, run_id: str, poll_seconds: float) -> Any:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with explained("to show the run", server):
                return client.get_run(run_id)
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(poll_seconds)


def _steps(run: Any) -> list[Step]:
    """Our own steps of a run in the order they began; KFP's drivers and groups are left out."""
    names = {name.replace("_", "-") for name in STEPS}
    details = (run.run_details.task_details if run.run_details else None) or []
    by_pod = {task.pod_name: task for task in details if task.pod_name}
    tasks = [task for task in details if task.display_name in names and task.state]
    tasks.sort(key=lambda task: (task.start_time or task.create_time).timestamp())
    return [_step(task, list(_executors(task, by_pod))) for task in tasks]


def _step(task: Any, executors: list[Any]) -> Step:
    # To KFP a step runs as soon as it may; that its pod has not started is a state of the pod.
    waits = task.state == "RUNNING" and any(pod.state == "PENDING" for pod in executors)
    errors = [one.error.message for one in (task, *executors) if one.error and one.error.message]
    return Step(
        key=task.pod_name or task.task_id or task.display_name,
        name=task.display_name,
        state="PENDING" if waits else task.state,
        error=errors[0] if errors else "",
    )


def _executors(task: Any, by_pod: dict[str, Any]) -> Iterator[Any]:
    """The pods of a step (with retries several, one level further down), which are tasks called `executor`, too."""
    for child in task.child_tasks or []:
        pod = by_pod.get(child.pod_name)
        if pod is not None and pod.display_name.startswith("executor"):
            yield pod
            yield from _executors(pod, by_pod)


def _end(run: Any, address: str) -> int:
    if run.state == "SUCCEEDED":
        print(f"The run succeeded. {_figures(run)}\n{address}")
        return 0
    failed = [step for step in _steps(run) if step.state == "FAILED"]
    where = f" in {failed[0].name}" if failed else ""
    messages = [step.error for step in failed if step.error]
    reason = messages[0] if messages else (run.error.message if run.error and run.error.message else "")
    said = f": {reason.strip().rstrip('.')}" if reason else ""
    print(f"The run {WORDS[run.state]}{where}{said}. The step's log says what to do:\n{address}")
    return 1


def _figures(run: Any) -> str:
    """What is in service now, where the models' bucket can be read from here."""
    parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
    models_uri = parameters.get("models_uri", "s3://models")
    elsewhere = "Its figures are in the outputs of evaluate and summarise, on the run's page."
    if "AWS_ENDPOINT_URL" not in os.environ:
        return elsewhere
    try:
        current = Registry.open(models_uri).current()
    except UserError:
        return elsewhere
    if current is None:
        return "No model is in service."
    said = f"In service: version {current.version}"
    if current.figures:
        low, high = current.figures.accuracy_ci95
        said += (
            f", accuracy {current.figures.accuracy:.1%} ({low:.1%} to {high:.1%}, "
            f"baseline {current.figures.baseline_accuracy:.1%}), within one {current.figures.within_one:.1%}"
        )
    return said + "."
