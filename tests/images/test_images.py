"""The images as they are built: small, without what does not belong, and working as a cluster runs them."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from components.core.images import USER_ID
from tests.small_model import photo, write_small_bundle, write_small_data

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

STEPS = ("ingest_metadata", "split", "download", "evaluate", "gate", "deploy", "core.buckets", "train_job.worker")
# All that is not for the images of training and serving.
IMPORT_ALL = """
import importlib, pkgutil, components
names = [one.name for one in pkgutil.walk_packages(components.__path__, "components.", onerror=lambda name: None)]
names = [one for one in names if not one.startswith(("components.train.", "components.serve"))]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def packages(image):
    return {path.name for path in image.root.glob("opt/bin-counter/lib/python3*/site-packages/*")}


def test_the_serve_image_is_at_most_750_mb(serve_image):
    assert serve_image.megabytes() <= 750


def test_the_pipeline_image_is_at_most_1_gb(pipeline_image):
    assert pipeline_image.megabytes() <= 1000


@pytest.mark.parametrize("name", ["serve_image", "pipeline_image"])
def test_images_have_a_fixed_user_labels_and_no_torch_or_compiler(name, request):
    image = request.getfixturevalue(name)
    assert image.config["User"] == f"{USER_ID}:{USER_ID}"
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"bin-counter-{image.name}"
    assert labels["org.opencontainers.image.version"] == "test"
    assert labels["org.opencontainers.image.revision"]
    assert {"torch", "torchvision", "triton"}.isdisjoint(packages(image))
    assert not [tool for tool in ("gcc", "cc", "g++", "make") if (image.root / "usr/bin" / tool).exists()]
    writable = [path for path in (image.root / "opt/bin-counter").rglob("*") if path.lstat().st_uid == USER_ID]
    assert writable == []


def test_the_serve_image_has_no_tables_library_it_does_not_need(serve_image):
    assert {"pyarrow", "sklearn", "matplotlib", "kfp"}.isdisjoint(packages(serve_image))


@pytest.mark.parametrize("step", STEPS)
def test_every_entry_point_of_the_pipeline_image_answers_help(pipeline_image, step):
    ended = pipeline_image.run(f"components.{step}", "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage:")


def test_a_step_of_the_pipeline_image_works_against_a_store(pipeline_image, store_environment):
    ended = pipeline_image.run("components.core.buckets", "made-by-an-image")
    assert (ended.returncode, ended.stdout) == (0, "made made-by-an-image\n"), ended.stderr
    again = pipeline_image.run("components.core.buckets", "made-by-an-image")
    assert "already there" in again.stdout


def test_evaluate_works_in_the_pipeline_image(pipeline_image, store_environment, tmp_path):
    """Tables, photos from the store, the runtime, figures and the report: with what the image has left."""
    bundle = write_small_bundle(tmp_path / "model", sharpness=1.0)
    data = write_small_data(tmp_path / "data")
    open_up(tmp_path)
    arguments = [f"--bundle=/mnt/{bundle.folder.name}", f"--shard-index=/mnt/data/{data.index.name}"]
    arguments += [f"--splits=/mnt/data/{data.splits.name}"]
    ended = pipeline_image.run("components.evaluate", *arguments, mounts={tmp_path: "/mnt"})
    assert ended.returncode == 0, ended.stderr
    assert "accuracy" in ended.stdout.lower()


def test_every_module_that_the_pipeline_image_runs_can_be_imported(pipeline_image):
    ended = python(pipeline_image, IMPORT_ALL)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50


def test_the_serve_image_answers_help(serve_image):
    ended = serve_image.run("components.serve", "--help")
    assert ended.returncode == 0, ended.stderr


def test_the_serve_image_counts_a_photo_as_its_user_with_a_read_only_root(serve_image, tmp_path):
    write_small_bundle(tmp_path / "model", sharpness=1.0)
    open_up(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["components.serve", "--model_dir=/mnt/models", f"--http_port={port}", "--enable_grpc=false"]
    command = serve_image.command(*arguments, mounts={tmp_path / "model": "/mnt/models"})
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until_ready(process, port, log)
        for count in (1, 3, 5):
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/models/bin-counter:predict",
                content=photo(count),
                headers={"Content-Type": "image/jpeg"},
            )
            assert answer.json()["predictions"][0]["count"] == count
        owners = {folder.stat().st_uid for folder in Path("/proc").iterdir() if listens(folder, port)}
        assert owners == {USER_ID}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def test_nothing_but_tmp_can_be_written_in_the_serve_image(serve_image):
    ended = python(serve_image, "open('/tmp/a', 'w'); open('/opt/bin-counter/a', 'w')")
    assert "Read-only file system: '/opt/bin-counter/a'" in ended.stderr


def python(image, code):
    """Run a line of Python as the image runs its modules."""
    command = image.command("compileall", "--help")
    start = command.index("python")
    return subprocess.run([*command[:start], "python", "-c", code], capture_output=True, text=True, check=False)


def wait_until_ready(process, port, log):
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        log.flush()
        assert process.poll() is None, Path(log.name).read_text()
        time.sleep(0.2)
    raise AssertionError(Path(log.name).read_text())


def listens(folder, port):
    """Whether a folder of /proc is the server's, and not that of the commands which start it."""
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
    except OSError:
        return False
    return f"--http_port={port}".encode() in words and b"unshare" not in words


def open_up(folder):
    """Let another user reach the folder: pytest's own temporary folders are for their owner only."""
    parents = [parent for parent in folder.parents if parent.name.startswith("pytest-")]
    for path in [folder, *folder.rglob("*"), *parents]:
        path.chmod(0o755)
