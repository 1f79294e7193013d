"""What became of the steps of a run, read from the tree of nodes that Argo Workflows keeps of it.

Kubeflow Pipelines' own answer (v2beta1) names neither a step's pods nor a reason. Argo's tree has both: in the name of
each node stands where it belongs, `run(0).root(0).exit-handler-1(0).train(0).executor(1)`, the numbers in brackets
being attempts, and its message is the scheduler's, the kubelet's or the container's own last words.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_ATTEMPT = re.compile(r"\((\d+)\)$")  # an iteration of a loop has two numbers, (1:1), and is no attempt
_EXIT = re.compile(r"^(?:main: )?Error \(exit code (\d+)\)(?:: (.*))?$", re.DOTALL)
_DRIVER = "-driver"
_EXECUTOR = "executor"
_CACHED = "'true != true'"  # Argo's condition on KFP's answer to whether the cache has the outputs
# Argo's words while a kubelet does what it always does before a container runs.
WORDLESS = "without a word"
_STARTING = ("ContainerCreating", "PodInitializing")


class State(StrEnum):
    """What a step is doing, or came to."""

    WAITS = "waits"
    RUNS = "runs"
    CACHED = "unchanged, taken from an earlier run"
    DONE = "done"
    BROKE = "ended badly"  # and Argo has still to decide whether another attempt follows
    FAILED = "FAILED"


@dataclass(frozen=True)
class Step:
    """A step of a run. `path` tells the trials of a study apart, which all have one name.

    `message` is why it waits, or what it failed with. `by_driver` tells that KFP failed before the step's own pod was
    made. `lost` are the reasons for which earlier attempts went, `pod` is the pod of the last attempt.
    """

    path: tuple[str, ...]
    name: str
    state: State
    message: str = ""
    by_driver: bool = False
    lost: tuple[str, ...] = ()
    pod: str = ""
    started: str = ""
    finished: str = ""


@dataclass(frozen=True)
class _Node:
    """A node of the tree: where it is without the numbers of attempts, and which attempt of each it belongs to."""

    path: tuple[str, ...]
    attempts: tuple[int, ...]
    kind: str
    phase: str
    message: str
    pod: str
    started: str
    finished: str


def read_steps(workflow: dict[str, Any]) -> list[Step]:
    """The steps of a run in the order they began, from Argo's Workflow as JSON; those not reached are left out."""
    by_step: dict[tuple[str, ...], list[_Node]] = defaultdict(list)
    drivers: dict[tuple[str, ...], list[_Node]] = defaultdict(list)
    for node in _nodes(workflow):
        if len(node.path) > 1 and node.path[-1] == _EXECUTOR:
            by_step[node.path[:-1]].append(node)
        elif node.kind == "Pod" and node.path[-1].endswith(_DRIVER):
            drivers[(*node.path[:-1], node.path[-1].removesuffix(_DRIVER))].append(node)
    steps = [_step(path, nodes) for path, nodes in by_step.items()]
    steps += [step for path, nodes in drivers.items() if path not in by_step and (step := _undriven(path, nodes))]
    return sorted(steps, key=lambda step: step.started)


def _nodes(workflow: dict[str, Any]) -> Iterable[_Node]:
    status = workflow.get("status") or {}
    name = str(workflow.get("metadata", {}).get("name", ""))
    for node in (status.get("nodes") or {}).values():
        parts = str(node.get("name", "")).split(".")
        found = [_ATTEMPT.search(part) for part in parts]
        template = node.get("templateName", "")
        yield _Node(
            path=tuple(_ATTEMPT.sub("", part) for part in parts),
            attempts=tuple(int(one[1]) if one else -1 for one in found),
            kind=str(node.get("type", "")),
            phase=str(node.get("phase", "")),
            message=str(node.get("message") or ""),
            # Argo's way to name a pod (its POD_NAMES=v2): workflow, template and the number that ends the node's id.
            pod=f"{name}-{template}-{str(node.get('id', '')).rpartition('-')[2]}",
            started=str(node.get("startedAt") or ""),
            finished=str(node.get("finishedAt") or ""),
        )


def _step(path: tuple[str, ...], nodes: list[_Node]) -> Step:
    """A step whose executor was made, or found in the cache."""
    pods = sorted((node for node in nodes if node.kind == "Pod"), key=lambda node: node.attempts)
    if not pods:
        skipped = any(_CACHED in node.message for node in nodes)
        return _made(path, nodes[-1], State.CACHED if skipped else State.WAITS, "")
    last = pods[-1]
    # The node above the attempts ends when no further one follows.
    over = [node for node in nodes if node.kind == "Retry" and node.attempts[:-1] == last.attempts[:-1]]
    ended = not over or over[-1].phase in ("Failed", "Error")
    lost = tuple(_sentence(pod.message) for pod in pods[:-1])
    state, message = _state(last, ended)
    if state is State.WAITS and last.phase == "Error":
        lost = (*lost, _sentence(last.message))
    return _made(path, last, state, message, lost)


def _state(pod: _Node, ended: bool) -> tuple[State, str]:
    """State and message by the last pod; `ended` tells that no further attempt follows."""
    if pod.phase == "Succeeded":
        return State.DONE, ""
    if pod.phase == "Running":
        return State.RUNS, ""
    if pod.phase in ("Failed", "Error") and ended:
        return State.FAILED, _sentence(pod.message)
    if pod.phase == "Failed":
        return State.BROKE, _sentence(pod.message)
    if pod.phase == "Error":
        return State.WAITS, "for its next attempt"
    return State.WAITS, _waiting(pod.message)


def _undriven(path: tuple[str, ...], drivers: list[_Node]) -> Step | None:
    """A step or a group that KFP's driver still prepares, when there is something to say about that."""
    last = max(drivers, key=lambda node: node.attempts)
    if last.phase in ("Failed", "Error"):
        return _made(path, last, State.FAILED, _sentence(last.message), by_driver=True)
    if last.phase == "Pending" and not _starting(last.message):
        return _made(path, last, State.WAITS, _waiting(last.message), by_driver=True)
    return None


def _made(
    path: tuple[str, ...],
    node: _Node,
    state: State,
    message: str,
    lost: tuple[str, ...] = (),
    by_driver: bool = False,
) -> Step:
    return Step(path, path[-1], state, message, by_driver, lost, node.pod, node.started, node.finished)


def _starting(message: str) -> bool:
    return not message or message.startswith(_STARTING)


def _waiting(message: str) -> str:
    return "for its image and its container" if _starting(message) else message.strip().rstrip(".")


def _sentence(message: str) -> str:
    """What a container said last, without Argo's words around it; its exit code where it said nothing."""
    match = _EXIT.match(message.strip())
    if match is None:
        return message.strip()
    return match[2].strip() if match[2] else f"it ended with exit code {match[1]} and {WORDLESS}; see its log"
