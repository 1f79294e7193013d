"""The runs that tests play are told as KFP 2.17.0 and Argo Workflows 4.0.5 told theirs, field by field."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from components.core.run_tree import State, read_steps
from tests.fakes.kfp_runs import RUNS, described, node_id, v1beta1, v2beta1, workflow

ANSWERS = Path(__file__).parent.parent.parent.parent / "shared" / "kubeflow" / "api"
NAMES = sorted(path.stem for path in RUNS.glob("*.yaml"))
RUN: dict[str, Any] = {
    "run_id": "run",
    "display_name": "bin-counter",
    "experiment_id": "",
    "service_account": "bin-counter-pipeline",
}
RUN |= {"pipeline_version_reference": {}, "runtime_config": {}}

needs_answers = pytest.mark.skipif(not ANSWERS.is_dir(), reason="there are no answers of a real KFP here")


def answers(kind: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(ANSWERS.glob(f"*.{kind}.json"))]


def real_workflows() -> list[dict[str, Any]]:
    told = [json.loads(one["pipeline_runtime"]["workflow_manifest"]) for one in answers("v1beta1")]
    return [*answers("workflow"), *told]


def nodes(workflows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for one in workflows for node in one["status"]["nodes"].values()]


def forms(
    values: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]
) -> dict[Any, tuple[set[str], set[str]]]:
    """By `key`, the fields that a value always has, and those that it may have."""
    found = defaultdict(list)
    for value in values:
        found[key(value)].append({name for name, inner in value.items() if inner is not None})
    return {name: (set.intersection(*fields), set.union(*fields)) for name, fields in found.items()}


@needs_answers
def test_the_nodes_of_a_run_have_the_fields_of_real_ones() -> None:
    real = forms(nodes(real_workflows()), lambda node: node["type"])
    for kind, (always, ever) in forms(nodes(workflow(described(name)) for name in NAMES), lambda n: n["type"]).items():
        assert ever <= real[kind][1], kind
        # A running node has not finished, and only an answer to a run of long ago has all else.
        assert real[kind][0] - {"finishedAt", "children", "boundaryID"} <= always | {"finishedAt"}, kind


@needs_answers
def test_kinds_phases_templates_and_messages_are_such_as_were_seen() -> None:
    def seen(workflows: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(n["type"], n["phase"]) for n in nodes(workflows)}

    # No answer was taken while a pod ran; that they do is in the histories of the newer answers.
    running = {("Pod", "Running")}
    assert seen(workflow(described(name)) for name in NAMES) <= seen(real_workflows()) | running
    real = {(node["type"], node["templateName"]) for node in nodes(real_workflows())}
    groups = {"Retry", "DAG", "Skipped"}  # whose templates have the names of a pipeline's groups
    for name in NAMES:
        for node in nodes([workflow(described(name))]):
            comp = node["templateName"].startswith("comp-") and node["type"] in groups
            assert comp or (node["type"], node["templateName"]) in real, node["name"]


@needs_answers
def test_ids_are_made_from_names_as_argo_makes_them() -> None:
    for node in nodes(real_workflows()):
        assert node_id(node["name"]) == node["id"]


@needs_answers
def test_the_newer_answer_has_the_fields_of_a_real_one_and_neither_pods_nor_errors() -> None:
    real = forms(answers("v2beta1"), lambda _: "run")["run"]
    tasks = forms((task for one in answers("v2beta1") for task in one["run_details"]["task_details"]), lambda _: "")[""]
    states = {task.get("state") for one in answers("v2beta1") for task in one["run_details"]["task_details"]}
    histories = {tuple(one.get("state") for one in told["state_history"]) for told in answers("v2beta1")}
    for name in NAMES:
        told = v2beta1(RUN, described(name))
        assert set(told) <= real[1]
        assert real[0] - {"finished_at", "experiment_id"} <= set(told)
        for task in told["run_details"]["task_details"]:
            assert set(task) <= tasks[1]
            assert tasks[0] <= set(task)
            assert task.get("state") in states
        history = tuple(one["state"] for one in told["state_history"])
        assert history in {tuple(filter(None, one)) for one in histories}, name


@needs_answers
def test_the_older_answer_has_the_fields_of_a_real_one() -> None:
    for real in answers("v1beta1"):
        told = v1beta1(RUN, described("unschedulable"))
        assert set(told) == set(real)
        assert set(told["run"]) == set(real["run"])
        assert set(told["pipeline_runtime"]) <= set(real["pipeline_runtime"])
        assert isinstance(told["pipeline_runtime"]["workflow_manifest"], str)


@needs_answers
@pytest.mark.parametrize(
    ("name", "step", "state", "message"),
    [
        ("cancelled", "train", State.FAILED, "it ended with exit code 143"),
        ("deploy-refused", "deploy", State.FAILED, "Version 33b448ebdb0e went into service after"),
        ("deploy-store-down", "deploy", State.FAILED, "The store of s3://models does not answer"),
        ("driver-failed-cached-oneof", "train", State.FAILED, "it ended with exit code 1"),
        ("step-failed-no-credentials", "champion", State.FAILED, "No credentials for s3://models"),
        ("succeeded-epochs-changed", "gate", State.CACHED, ""),
        ("succeeded-gate-kept", "gate", State.DONE, ""),
        ("succeeded-tuned", "train", State.DONE, ""),
    ],
)
def test_real_runs_are_understood(name: str, step: str, state: State, message: str) -> None:
    steps = read_steps(json.loads((ANSWERS / f"{name}.workflow.json").read_text()))
    [found] = [one for one in steps if one.name == step]
    assert found.state is state
    assert found.message.startswith(message)
    assert found.by_driver is (name == "driver-failed-cached-oneof")


@needs_answers
def test_a_real_pod_that_waits_has_the_schedulers_reason() -> None:
    [waiting] = [one for one in read_steps(real_workflows()[-1]) if one.state is State.WAITS]
    assert waiting.name == "train"
    assert waiting.message.startswith("Unschedulable: 0/1 nodes are available: 1 node(s) didn't match")


@needs_answers
def test_a_real_pod_that_was_deleted_is_told_beside_the_attempt_that_followed() -> None:
    steps = read_steps(json.loads((ANSWERS / "succeeded-tuned.workflow.json").read_text()))
    trials = [(step.state, step.lost) for step in steps if step.name == "tune-trial"]
    assert trials == [(State.DONE, ()), (State.DONE, ("pod deleted",))]


@needs_answers
def test_someones_terminate_is_seen_in_the_history() -> None:
    for path in sorted(ANSWERS.glob("*.v2beta1.json")):
        states = [one.get("state") for one in json.loads(path.read_text())["state_history"]]
        assert ("CANCELING" in states) is ("cancelled" in path.name or "ended" in path.name)
