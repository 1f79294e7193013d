"""The parts of KServe that the server is built on: what the pinned release has, and what the newest would take away."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Where a name comes from, and the parameters of it that are given by name or position.
USED = {
    "kserve.model_server:ModelServer": ["http_port", "grpc_port", "enable_grpc", "enable_latency_logging",
                                        "registered_models"],
    "kserve.protocol.rest.server:RESTServer": ["app", "data_plane", "model_repository_extension", "http_port",
                                               "timeout_keep_alive", "ssl_certfile", "ssl_keyfile"],
    "kserve.protocol.rest.server:_RefreshingServer": ["config"],
    "kserve.protocol.rest.server:metrics_handler": ["request"],
    "kserve.protocol.rest.v1_endpoints:V1Endpoints": ["dataplane"],
    "kserve.protocol.rest.v2_endpoints:V2Endpoints": ["dataplane"],
    "kserve.protocol.grpc.servicer:InferenceServicer": ["data_plane", "model_repository_extension"],
    "kserve.model:Model": ["name"],
    "kserve.model_repository:ModelRepository": ["models_dir"],
    "kserve.protocol.dataplane:DataPlane": [],
    "kserve.errors:ModelNotFound": [],
    "kserve.errors:ModelNotReady": [],
}  # fmt: skip


def test_the_pinned_release_is_the_one_that_is_installed() -> None:
    pinned = re.search(r"^kserve==(\S+)$", (ROOT / "requirements" / "serve.in").read_text(), re.MULTILINE)
    assert pinned is not None
    assert importlib.metadata.version("kserve") == pinned[1]


# In a process of its own: tritonclient, which other tests use, brings the same protocol buffers under other names.
LOOK = """
import importlib, inspect, json, sys
from components.serve import kserve_lean
found = {}
for place in json.loads(sys.argv[1]):
    module, _, name = place.partition(":")
    part = getattr(importlib.import_module(module), name)
    found[place] = [getattr(kserve_lean, name) is part, list(inspect.signature(part).parameters)]
print(json.dumps([kserve_lean.__all__, found]))
"""


@pytest.fixture(scope="module")
def installed() -> tuple[list[str], dict[str, tuple[bool, list[str]]]]:
    """What `kserve_lean` hands on, and of each part whether it is KServe's own, and its parameters."""
    command = [sys.executable, "-c", LOOK, json.dumps(list(USED))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    names, parts = json.loads(ended.stdout.splitlines()[-1])
    return names, parts


@pytest.mark.parametrize(("place", "parameters"), USED.items())
def test_the_pinned_release_has_every_part_with_its_parameters(
    installed: tuple[list[str], dict[str, tuple[bool, list[str]]]], place: str, parameters: list[str]
) -> None:
    is_kserves, has = installed[1][place]
    assert is_kserves
    assert set(parameters) <= set(has)


def test_every_part_that_is_taken_is_listed_here(
    installed: tuple[list[str], dict[str, tuple[bool, list[str]]]],
) -> None:
    listed = {place.partition(":")[2] for place in USED}
    assert set(installed[0]) - {"grpc_predict_v2_pb2", "grpc_predict_v2_pb2_grpc"} == listed


@pytest.mark.slow
def test_the_newest_release_is_read_for_what_it_would_break(tmp_path: Path) -> None:
    """Not imported, since its dependencies may not be here: its source is searched for the parts and parameters."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--pre",
        "--dest",
        str(tmp_path),
        "kserve",
    ]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("no package registry can be reached")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        broken = [problem for place, given in USED.items() if (problem := problem_of(archive, place, given))]
    assert not broken, f"{wheel.name}: {'; '.join(broken)}"


def problem_of(archive: zipfile.ZipFile, place: str, parameters: list[str]) -> str | None:
    """What a release lacks of a part, None when nothing."""
    module, _, name = place.partition(":")
    path = f"{module.replace('.', '/')}.py"
    if path not in archive.namelist():
        return f"{module} is gone"
    nodes = {node.name: node for node in ast.parse(archive.read(path)).body if hasattr(node, "name")}
    if name not in nodes:
        return f"{place} is gone"
    node = nodes[name]
    if isinstance(node, ast.ClassDef):
        makers = [inner for inner in node.body if getattr(inner, "name", "") == "__init__"]
        if not makers:
            return None  # it takes what its parent takes
        node = makers[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    has = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    lost = set(parameters) - has
    return f"{place} lost {', '.join(sorted(lost))}" if lost else None
