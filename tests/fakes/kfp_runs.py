"""Runs as KFP's API tells them, made from short descriptions in tests/fakes/runs.

The shape is that of real answers of KFP 2.17.0 with Argo Workflows 4.0.5 (a test compares, where some are at hand): a
tree of nodes in which every task is a driver and, below that, attempts of an executor, each with retries around it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

RUNS = Path(__file__).parent / "runs"
WORKFLOW = "bin-counter-abcde"
MOMENT = "2026-11-25T23:49:{:02}Z"
NEVER = "1970-01-01T00:00:00Z"
DRIVER, EXECUTOR = "system-container-driver", "metadata-0-2-retry-system-container-executor"
IMPLEMENTATION = "metadata-0-2-retry-system-container-impl"
CACHED = "when 'true != true' evaluated false"
NOT_TAKEN = "when 'false != false' evaluated false"
OMITTED = "omitted: depends condition not met"
TASK_STATES = {
    "Succeeded": "SUCCEEDED",
    "Failed": "FAILED",
    "Error": "FAILED",
    "Running": "RUNNING",
    "Pending": "PENDING",
    "Skipped": "SKIPPED",
}

Json = dict[str, Any]


def node_id(name: str) -> str:
    """Argo's id of a node: the workflow, and the FNV-1a hash (32 bits) of the node's name."""
    digest = 0x811C9DC5
    for byte in name.encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    workflow = name.split(".")[0].split("(")[0]
    return name if name == workflow else f"{workflow}-{digest}"


@dataclass
class Tree:
    """The nodes made so far, by id."""

    nodes: dict[str, Json] = field(default_factory=dict)

    def add(self, parent: str, name: str, kind: str, template: str, phase: str, message: str = "") -> str:
        """Add a node below `parent` (its full name) and return its own full name."""
        full = f"{parent}.{name}" if parent else name
        moment = MOMENT.format(min(len(self.nodes), 59))
        node: Json = {"id": node_id(full), "name": full, "displayName": name, "type": kind, "templateName": template}
        node["phase"] = phase
        if parent:
            node["boundaryID"] = node_id(parent)
        if message:
            node["message"] = message
        node["startedAt"] = moment
        node["finishedAt"] = None if phase in ("Running", "Pending") else moment
        if kind != "Skipped":
            node["progress"] = "1/1" if phase == "Succeeded" else "0/1"
        if kind == "Pod" and phase != "Pending":
            node["hostNodeName"] = "node-1"
        self.nodes[node["id"]] = node
        return full

    def link(self, parent: str, *children: str) -> None:
        """Name children of a node."""
        self.nodes[node_id(parent)].setdefault("children", []).extend(node_id(child) for child in children)

    def retried(self, parent: str, name: str, kind: str, template: str, attempts: list[tuple[str, str]]) -> list[str]:
        """Attempts (phase and message) below a node that ends as the last one does; their full names, it first."""
        phase, message = attempts[-1]
        over = {"Error": "Failed", "Pending": "Running"}.get(phase, phase)
        above = self.add(parent, name, "Retry", template, over, message if over == "Failed" else "")
        made = [
            self.add(parent, f"{name}({place})", kind, template, *attempt) for place, attempt in enumerate(attempts)
        ]
        self.link(above, *made)
        return [above, *made]


def described(name: str) -> Json:
    """A description by the name of its file."""
    found: Json = yaml.safe_load((RUNS / f"{name}.yaml").read_text())
    return found


def workflow(description: Json) -> Json:
    """Argo's Workflow of a run, as far as KFP's v1beta1 API hands it out and anybody reads it."""
    tree = Tree()
    phase = description["phase"]
    entry = tree.retried("", WORKFLOW, "DAG", "entrypoint", [(phase, "")])[-1]
    groups: dict[tuple[str, ...], str] = {(): _group(tree, entry, "root", phase)}
    for task in description["tasks"]:
        within = tuple(task.get("within", ()))
        for depth in range(1, len(within) + 1):
            if within[:depth] not in groups:
                groups[within[:depth]] = _group(tree, groups[within[: depth - 1]], within[depth - 1], phase)
        _task(tree, groups[within], task)
    message = description.get("message")
    status = {"phase": phase, "message": message, "startedAt": MOMENT.format(0), "nodes": tree.nodes}
    return {"metadata": {"name": WORKFLOW}, "status": status}


def _group(tree: Tree, parent: str, name: str, phase: str) -> str:
    if not name.endswith(".onExit"):
        tree.retried(parent, f"{name}-driver", "Pod", "system-dag-driver", [("Succeeded", "")])
    return tree.retried(parent, name, "DAG", f"comp-{name}", [(phase, "")])[-1]


def _task(tree: Tree, parent: str, task: Json) -> None:
    """One task: `omitted`, a branch that was `skipped`, `cached`, or with a `driver` and `pods` as [phase, message]."""
    name = task["task"]
    if task.get("omitted"):
        for part, template in ((f"{name}-driver", DRIVER), (name, EXECUTOR)):
            tree.add(parent, part, "Skipped", template, "Omitted", OMITTED)
        return
    driver: tuple[str, str] = tuple(task.get("driver", ("Succeeded", "")))
    made = tree.retried(parent, f"{name}-driver", "Pod", DRIVER, [driver])
    if task.get("skipped"):
        tree.add(parent, name, "Skipped", f"comp-{name}", "Skipped", NOT_TAKEN)
        return
    if driver[0] != "Succeeded":
        return
    pods: list[tuple[str, str]] = [tuple(pod) for pod in task.get("pods", ())] or [("Succeeded", "")]
    phase = {"Pending": "Running", "Error": "Failed"}.get(pods[-1][0], pods[-1][0])
    above, attempt = tree.retried(parent, name, "DAG", EXECUTOR, [(phase, "")])
    tree.link(made[-1], above)
    if task.get("cached"):
        tree.link(attempt, tree.add(attempt, "executor", "Skipped", IMPLEMENTATION, "Skipped", CACHED))
        return
    tree.link(attempt, tree.retried(attempt, "executor", "Pod", IMPLEMENTATION, pods)[0])


def v1beta1(run: Json, description: Json) -> Json:
    """What `GET /apis/v1beta1/runs/<id>` answers."""
    shown = {
        "id": run["run_id"],
        "name": run["display_name"],
        "resource_references": [],
        "service_account": run.get("service_account", ""),
        "created_at": MOMENT.format(0),
        "scheduled_at": MOMENT.format(0),
        "finished_at": _finished(description),
        "status": description["phase"],
    }
    return {"run": shown, "pipeline_runtime": {"workflow_manifest": json.dumps(workflow(description))}}


def v2beta1(run: Json, description: Json) -> Json:
    """What `GET /apis/v2beta1/runs/<id>` answers: no task has a pod's name or an error."""
    history = [{"update_time": MOMENT.format(place), "state": one} for place, one in enumerate(description["history"])]
    details = [_detail(run["run_id"], node) for node in workflow(description)["status"]["nodes"].values()]
    return run | {
        "storage_state": "AVAILABLE",
        "created_at": MOMENT.format(0),
        "scheduled_at": MOMENT.format(0),
        "finished_at": _finished(description),
        "state": description["history"][-1],
        "state_history": history,
        "run_details": {"task_details": details},
    }


def _finished(description: Json) -> str:
    return MOMENT.format(59) if description["phase"] in ("Succeeded", "Failed") else NEVER


def _detail(run_id: str, node: Json) -> Json:
    state = TASK_STATES.get(node["phase"])  # a task that was omitted has none
    known = {"state": state} if state else {}
    children = [{"pod_name": child} for child in node.get("children", ())]
    return {
        "run_id": run_id,
        "task_id": f"task-of-{node['id']}",
        "display_name": node["displayName"],
        "create_time": MOMENT.format(0),
        "start_time": node["startedAt"],
        "end_time": node["finishedAt"] or NEVER,
        **known,
        "state_history": [{"update_time": node["startedAt"], **known}],
        **({"child_tasks": children} if children else {}),
    }
