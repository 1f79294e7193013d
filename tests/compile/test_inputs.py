"""Every task of the compiled pipeline finds its inputs: KFP's driver fails on one that its parent does not have."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipeline.compile import compile_pipeline
from pipeline.resources import PRESETS, Placement


def groups(ir: dict[str, Any]) -> dict[str, Any]:
    """Each DAG of the IR with what it is given: the root, and every component that is a group of tasks."""
    found = {"root": ir["root"], **ir["components"]}
    return {name: group for name, group in found.items() if "dag" in group}


def inputs(task: dict[str, Any], kind: str = "parameters") -> dict[str, Any]:
    return task.get("inputs", {}).get(kind, {})


def lacking(ir: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a task takes from its parent, and the parent does not have: names of group, task and input."""
    for name, group in groups(ir).items():
        for kind, key in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
            there = group.get("inputDefinitions", {}).get(kind, {})
            for task_name, task in group["dag"]["tasks"].items():
                wanted = [one[key] for one in inputs(task, kind).values() if key in one]
                yield from ((name, task_name, one) for one in wanted if one not in there)


def placeholders(container: dict[str, Any]) -> set[str]:
    """The task's own inputs that its image and resources are read from."""
    return set(re.findall(r"inputs\.parameters\['([^']+)'\]", str([container["image"], container["resources"]])))


def of_the_parent(settings: dict[str, Any]) -> set[str]:
    """The parent's inputs that Kubernetes settings of a task are read from."""
    return set(re.findall(r"'componentInputParameter': '([^']+)'", str(settings)))


@pytest.fixture(scope="module", params=itertools.product(PRESETS, ("pod", "trainjob")), ids="-".join)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    preset, train_on = request.param
    path = compile_pipeline(Placement(preset, train_on), tmp_path_factory.mktemp("compiled")).path
    return list(yaml.safe_load_all(path.read_text()))


def test_every_group_has_what_its_tasks_take_from_it(compiled: list[dict[str, Any]]) -> None:
    ir, _ = compiled
    assert len(groups(ir)) >= 4
    assert list(lacking(ir)) == []


def test_every_setting_that_is_read_at_run_time_has_its_input(compiled: list[dict[str, Any]]) -> None:
    ir, platform = compiled
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = ir["deploymentSpec"]["executors"]
    read = {name.removeprefix("exec-"): placeholders(one["container"]) for name, one in executors.items()}
    above = {name.removeprefix("exec-"): of_the_parent(one) for name, one in settings.items()}
    assert any(len(names) > 2 for names in read.values())
    assert any(above.values())
    for group in groups(ir).values():
        for name, task in group["dag"]["tasks"].items():
            component = task["componentRef"]["name"].removeprefix("comp-")
            assert read.get(component, set()) <= set(inputs(task)), name
            assert above.get(component, set()) <= set(group["inputDefinitions"]["parameters"]), name


def test_no_task_chooses_between_branches_that_a_cache_may_answer(compiled: list[dict[str, Any]]) -> None:
    """OneOf fails there: a cached task leaves its branch running in KFP's metadata."""
    ir, _ = compiled
    for group in groups(ir).values():
        for output in group["dag"].get("outputs", {}).get("parameters", {}).values():
            assert "valueFromOneof" not in output
        for output in group["dag"].get("outputs", {}).get("artifacts", {}).values():
            assert "oneOf" not in str(output)
