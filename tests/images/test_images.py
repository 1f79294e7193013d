"""The images as they are built: small, without what does not belong, and working as a cluster runs them."""

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.grpc
import yaml

from components.core.images import USER_ID
from components.core.records import RECORDS_SCHEMA, Record, read_splits, write_splits
from pipeline.local_store import RunningStore
from tests.images.conftest import ROOT, Image, build, image
from tests.small_model import photo, write_small_bundle, write_small_data

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

every_image = pytest.mark.parametrize("any_image", ["serve", "pipeline", "train"], indirect=True)
MEGABYTES = {"serve": 480, "pipeline": 850, "train": 6000}
ENTRY_POINTS = {
    "serve": {"serve"},
    "train": {"train", "train_job.worker"},
    "pipeline": {"core.buckets", "deploy", "download", "evaluate", "gate", "ingest_metadata", "split"},
}
NOT_IN = {
    "serve": {
        "torch",
        "triton",
        "pandas",
        "kubernetes",
        "pyarrow",
        "sklearn",
        "matplotlib",
        "kfp",
        "setuptools",
        "grpc_tools",
    },
    "pipeline": {"torch", "triton", "kserve", "setuptools"},
    "train": {"triton", "kserve"},
}
# A step of each image, with parameters as the DAG gives them.
KFP_STEPS = {
    "pipeline": ("split", {"max_count": 5, "seed": 0, "validation_share": 0.1, "test_share": 0.1, "file_lists": ""}),
    "train": ("tune-plan", {"trials": 2, "tune": False, "recipe": "finetune", "epochs": 0, "image_size": 0, "seed": 0,
                            "max_count": 5, "backbone": "", "weights": "random", "overrides": "{}"}),
}  # fmt: skip
ONLY_FOR_BUILDING = ("*.a", "*.h", "*.pyx", "protoc", "protoc-*", "tests", "SelfTest")
CHANGE_SECONDS, CHANGE_BYTES = 15, 5_000_000
DOCUMENTS = Path("usr/share/doc/bin-counter")
# All that a cluster runs of this image, with what it imports.
IMPORT_ALL = """
import importlib, pkgutil, components
names = [one.name for one in pkgutil.walk_packages(components.__path__, "components.", onerror=lambda name: None)]
names = [one for one in names if not one.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
POISON = """
import pathlib, subprocess, sys
pathlib.Path("/tmp/numpy.py").write_text("raise SystemExit('a file of /tmp was imported')")
sys.exit(subprocess.run([sys.executable, "-m", "components.serve", "--help"], cwd="/tmp").returncode)
"""


@every_image
def test_an_image_is_no_larger_than_said(any_image: Image) -> None:
    assert any_image.megabytes() <= MEGABYTES[any_image.name]


@every_image
def test_an_image_says_where_it_comes_from(any_image: Image) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in any_image.config["Labels"].items()
    }
    assert labels["title"] == f"bin-counter-{any_image.name}"
    assert labels["version"] == "test"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.digest"].startswith("sha256:")
    for name in ("revision", "source", "created", "base.name"):
        assert labels[name]


@every_image
def test_an_image_has_what_it_needs_and_nothing_to_build_with(any_image: Image) -> None:
    assert any_image.config["User"] == f"{USER_ID}:{USER_ID}"
    assert NOT_IN[any_image.name].isdisjoint(any_image.packages())
    tools = ("gcc", "cc", "g++", "make", "pip3", "uv")
    assert not [tool for tool in tools if (any_image.root / "usr/bin" / tool).exists()]
    packages = next(any_image.root.glob("opt/bin-counter/lib/python3*/site-packages"))
    assert not [path for pattern in ONLY_FOR_BUILDING for path in packages.rglob(pattern)]
    assert not list((any_image.root / "var/cache/apt").glob("*.bin"))
    assert stat.filemode((any_image.root / "tmp").stat().st_mode) == "drwxrwxrwt"
    files = [*(any_image.root / "opt/bin-counter").rglob("*"), *(any_image.root / DOCUMENTS).rglob("*")]
    assert not [path for path in files if path.lstat().st_uid != 0]
    assert not [path for path in files if not path.is_symlink() and not path.stat().st_mode & 0o004]


@every_image
def test_without_arguments_an_image_lists_what_it_can_run_and_each_answers_help(any_image: Image) -> None:
    listed = any_image.run()
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  components.")]
    assert {f"components.{name}" for name in ENTRY_POINTS[any_image.name]} <= set(names)
    for name in names:
        ended = any_image.run(name, "--help")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("usage:")


@pytest.mark.parametrize("any_image", ["pipeline", "train"], indirect=True)
def test_every_module_that_the_images_of_steps_hold_can_be_imported(any_image: Image) -> None:
    ended = any_image.python(IMPORT_ALL)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50


@every_image
def test_an_image_runs_as_any_user_and_without_a_network(any_image: Image) -> None:
    name = f"components.{min(ENTRY_POINTS[any_image.name])}"
    for how in ({"user": "1234567:0"}, {"network": False}):
        ended = any_image.run(name, "--help", **how)
        assert ended.returncode == 0, ended.stderr


def test_nothing_in_tmp_takes_the_place_of_a_package(serve_image: Image) -> None:
    ended = serve_image.python(POISON)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_nothing_but_tmp_can_be_written(serve_image: Image) -> None:
    ended = serve_image.python("open('/tmp/a', 'w'); open('/opt/bin-counter/a', 'w')")
    assert "Read-only file system: '/opt/bin-counter/a'" in ended.stderr


@every_image
def test_an_image_lists_all_its_parts_with_their_licences(any_image: Image) -> None:
    folder = any_image.root / DOCUMENTS
    bill = json.loads((folder / "bom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["purl"].partition("?")[0].partition("@")[0] for part in bill["components"]}
    installed = any_image.root.glob("opt/bin-counter/lib/python3*/site-packages/*.dist-info")
    assert {f"pkg:pypi/{path.name.partition('-')[0].lower().replace('_', '-')}" for path in installed} == {
        part.replace(".", "-").replace("_", "-") for part in parts if part.startswith("pkg:pypi/")
    }
    debian = any_image.run("-W", "-f", "${Package}\\n", entry=["dpkg-query"]).stdout.split()
    said = {part.replace("%2B", "+") for part in parts if part.startswith("pkg:deb/")}
    assert {f"pkg:deb/debian/{name}" for name in debian} == said
    assert "Apache License" in (folder / "LICENSE").read_text()
    third_party = (folder / "THIRD-PARTY.txt").read_text()
    texts = [line.strip() for line in third_party.splitlines() if line.startswith("    ")]
    assert len(texts) > 30
    assert not [text for text in texts if not (any_image.root / text.removeprefix("/")).is_file()]


def test_a_step_of_the_pipeline_image_works_against_a_store(
    pipeline_image: Image, store_environment: RunningStore
) -> None:
    ended = pipeline_image.run("components.core.buckets", "made-by-an-image")
    assert (ended.returncode, ended.stdout) == (0, "made made-by-an-image\n"), ended.stderr
    again = pipeline_image.run("components.core.buckets", "made-by-an-image")
    assert "already there" in again.stdout


def test_evaluate_works_in_the_pipeline_image(
    pipeline_image: Image, store_environment: RunningStore, tmp_path: Path
) -> None:
    """Tables, photos from the store, the runtime, figures and the report: with what the image has left."""
    bundle = write_small_bundle(tmp_path / "model", sharpness=1.0)
    data = write_small_data(tmp_path / "data")
    open_up(tmp_path)
    arguments = [f"--bundle=/mnt/{bundle.folder.name}", f"--shard-index=/mnt/data/{data.index.name}"]
    arguments += [f"--splits=/mnt/data/{data.splits.name}"]
    ended = pipeline_image.run("components.evaluate", *arguments, mounts={tmp_path: "/mnt"})
    assert ended.returncode == 0, ended.stderr
    assert "accuracy" in ended.stdout.lower()


def test_the_train_image_trains_without_a_compiler(
    train_image: Image, store_environment: RunningStore, tmp_path: Path
) -> None:
    data = write_small_data(tmp_path / "data")
    splits = read_splits(data.splits)
    splits.loc[splits.index[splits["subset"] == "train"][:15], ["subset", "block_subset"]] = "validation"
    write_splits(data.splits, splits)
    open_up(tmp_path)
    arguments = [f"--shard-index=/mnt/{data.index.name}", f"--splits=/mnt/{data.splits.name}", "--output=/tmp/out"]
    arguments += ["--weights=random", "--epochs=1", "--image-size=64"]
    ended = train_image.run("components.train", *arguments, mounts={tmp_path / "data": "/mnt"}, seconds=900)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]


@pytest.mark.parametrize("any_image", ["pipeline", "train"], indirect=True)
def test_the_command_line_that_kfp_gives_a_step_works(any_image: Image, tmp_path: Path) -> None:
    """The executor's command as it stands in the compiled DAG; KFP's launcher puts the input in the place of {{$}}."""
    compiled = next(yaml.safe_load_all((ROOT / "tests/compile/pipeline.yaml").read_text()))
    step, parameters = KFP_STEPS[any_image.name]
    outputs = compiled["components"][f"comp-{step}"]["outputDefinitions"]
    taken = compiled["components"][f"comp-{step}"]["inputDefinitions"].get("artifacts", {})
    given = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {name: artifact(name, f"/mnt/{name}") for name in taken},
        },
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/out/{name}"} for name in outputs.get("parameters", {})},
            "artifacts": {name: artifact(name, f"/tmp/out/{name}") for name in outputs.get("artifacts", {})},
            "outputFile": "/tmp/out/executor.json",
        },
    }
    records = [Record(f"{number:05d}", number % 6, contents=f"{number}") for number in range(1000)]
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in records], RECORDS_SCHEMA), tmp_path / "records")
    open_up(tmp_path)
    container = compiled["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    words = [json.dumps(given) if word == "{{$}}" else word for word in [*container["command"], *container["args"]]]
    ended = any_image.run(*words, entry=[], mounts={tmp_path: "/mnt"})
    assert ended.returncode == 0, ended.stderr


def artifact(name: str, place: str) -> dict[str, list[dict[str, Any]]]:
    return {"artifacts": [{"name": name, "uri": place, "type": {"schemaTitle": "system.Artifact"}, "metadata": {}}]}


def test_the_serve_image_counts_photos_over_http_and_grpc_as_its_user(serve_image: Image, tmp_path: Path) -> None:
    with serving(serve_image, tmp_path) as (http, grpc):
        for count in (1, 3, 5):
            answer = httpx.post(
                f"http://127.0.0.1:{http}/v1/models/bin-counter:predict",
                content=photo(count),
                headers={"Content-Type": "image/jpeg"},
            )
            assert answer.json()["predictions"][0]["count"] == count
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{grpc}") as client:
            assert client.is_server_ready()
            assert client.is_model_ready("bin-counter")
        owners = {folder.stat().st_uid for folder in Path("/proc").iterdir() if listens(folder, http)}
        assert owners == {USER_ID}


def test_two_builds_have_the_same_files_whatever_the_umask(serve_image: Image, base_image: str, tmp_path: Path) -> None:
    """Another clone, another time, modes that only the owner can read, and the dependencies installed anew."""
    before = os.umask(0o077)
    try:
        checkout = clone(tmp_path / "clone")
        locked = checkout / "requirements/serve.txt"
        locked.write_text(locked.read_text() + "# installed anew\n")
        with image("serve", base_image, checkout, tag="again") as again:
            ended = again.run("components.serve", "--help")
            assert ended.returncode == 0, ended.stderr
            first, second = files(serve_image), files(again)
    finally:
        os.umask(before)
    assert {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)} == {
        str(DOCUMENTS / "requirements.txt")
    }


@pytest.mark.parametrize("name", ["serve", "pipeline", "train"])
def test_a_changed_line_is_seconds_and_megabytes(
    name: str, base_image: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = request.getfixturevalue(f"{name}_image")
    checkout = clone(tmp_path / "clone")
    changed = checkout / "components/core/errors.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    with image(name, base_image, checkout, tag="changed") as after:
        new = sum(size for digest, size in after.layers.items() if digest not in before.layers)
    print(f"{name}: a changed line takes {after.build_seconds:.1f} s and {new / 1e6:.2f} MB before compression")
    assert new <= CHANGE_BYTES
    assert after.build_seconds <= CHANGE_SECONDS


def test_another_tag_of_the_same_code_has_the_same_layers(serve_image: Image, base_image: str) -> None:
    with image("serve", base_image, tag="renamed") as renamed:
        assert renamed.config["Labels"]["org.opencontainers.image.version"] == "renamed"
        assert renamed.layers.keys() == serve_image.layers.keys()


def test_a_password_in_an_argument_is_refused(base_image: str) -> None:
    ended = build(
        "serve", base_image, tag="refused", flags="--build-arg PIP_INDEX_URL=https://me:secret@mirror.invalid/simple"
    )
    assert ended.returncode != 0
    assert "give it as the secret netrc" in ended.stdout + ended.stderr


def clone(folder: Path) -> Path:
    """What git would check out here, with the modes of the umask and the times of now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def files(image: Image) -> dict[str, tuple[str, str]]:
    """Modes and digests of everything that the build added to Debian."""
    found = {}
    for folder in ("opt", str(DOCUMENTS)):
        for path in sorted((image.root / folder).rglob("*")):
            if path.is_symlink():
                said = str(path.readlink())
            else:
                said = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(image.root))] = (oct(path.lstat().st_mode), said)
    return found


@contextmanager
def serving(image: Image, folder: Path) -> Iterator[tuple[int, int]]:
    """The server of the image on a small model; gives its HTTP and its gRPC port."""
    write_small_bundle(folder / "model", sharpness=1.0)
    open_up(folder)
    http, grpc = free_port(), free_port()
    arguments = ["components.serve", "--model_dir=/mnt/models", f"--http_port={http}", f"--grpc_port={grpc}"]
    command = image.command(*arguments, mounts={folder / "model": "/mnt/models"})
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_until_ready(process, http, folder / "log")
            yield http, grpc
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def listens(folder: Path, port: int) -> bool:
    """Whether a folder of /proc is the server's, and not that of the commands which start it."""
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
    except OSError:
        return False
    return f"--http_port={port}".encode() in words and b"unshare" not in words


def open_up(folder: Path) -> None:
    """Let another user reach the folder: pytest's own temporary folders are for their owner only."""
    parents = [parent for parent in folder.parents if parent.name.startswith("pytest-")]
    for path in [folder, *folder.rglob("*"), *parents]:
        path.chmod(0o755)
