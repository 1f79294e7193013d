"""The embedded S3 store of a local run: SeaweedFS as one child process, on loopback, with its data in one folder."""

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from components.core.buckets import make_buckets_with_keys
from components.core.errors import UserError
from components.core.files import write_whole
from components.core.layout import DATA_BUCKET, MODELS_BUCKET, SOURCE_BUCKET
from components.core.ports import LOOPBACK, free_ports
from pipeline.store_keys import protection

# Where a local run keeps everything: the store, the cache, the results.
HOME = Path(os.environ.get("BIN_COUNTER_HOME", ".local"))
REGION = "us-east-1"
ADDRESS_FILE = "address"  # in the store's folder, while it runs
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
# SeaweedFS takes no more data when less than 1 % of the disk is free.
FULL_BELOW_SHARE = 0.01
FULL_BELOW_BYTES = 64 * 1024**2
SOCKETS = Path("/tmp")  # noqa: S108 - where SeaweedFS makes one for each port, and leaves it
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class RunningStore:
    """A store that answers: where it is and the credentials it was started with."""

    endpoint: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """The variables through which `components.core.store` finds this store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
        }


@contextmanager
def local_store(
    folder: Path, buckets: Sequence[str] = (SOURCE_BUCKET, DATA_BUCKET, MODELS_BUCKET)
) -> Iterator[RunningStore]:
    """Run the store on `folder` for the length of the block; `buckets` exist when the block begins.

    Raises UserError when another run uses the folder, or when the store does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"Another run uses the store in {folder}; wait for it to end, or stop it, and run again."
            ) from error
        access_key, secret_key = _credentials(folder / "s3.json")
        process, endpoint = stack.enter_context(_process(folder))
        _wait_until_healthy(process, endpoint, folder / "weed.log")
        store = RunningStore(endpoint, access_key, secret_key)
        make_buckets_with_keys(buckets, endpoint, REGION, access_key, secret_key)
        # While it runs others may ask it too: `make models`, `make rollback`, `make serve`.
        write_whole(folder / ADDRESS_FILE, endpoint)
        stack.callback((folder / ADDRESS_FILE).unlink, missing_ok=True)
        with _told_when_full(folder):
            yield store


@contextmanager
def store_of(folder: Path) -> Iterator[RunningStore]:
    """The store on `folder` for the length of the block: one of our own, or that of a run that is going on.

    Raises UserError when there is none yet, or none that answers.
    """
    if not (folder / "s3.json").is_file():
        raise UserError(
            f"There is no store in {folder} yet; run `make pipeline` first, or set AWS_ENDPOINT_URL to another."
        )
    running = _running(folder)
    if running is not None:
        yield running
        return
    with local_store(folder) as store:
        yield store


def _running(folder: Path) -> RunningStore | None:
    """The store that another process runs on the folder, if it answers."""
    try:
        endpoint = (folder / ADDRESS_FILE).read_text()
        if not httpx.get(f"{endpoint}/healthz", timeout=1.0, trust_env=False).is_success:
            return None
    except (OSError, httpx.HTTPError, httpx.InvalidURL):
        return None
    return RunningStore(endpoint, *_credentials(folder / "s3.json"))


@contextmanager
def _told_when_full(folder: Path) -> Iterator[None]:
    """Name a full disk as the reason: to its clients the store reports no more than an internal error."""
    try:
        yield
    except UserError as error:
        disk = shutil.disk_usage(folder)
        if disk.free > max(FULL_BELOW_BYTES, FULL_BELOW_SHARE * disk.total):
            raise
        raise UserError(
            f"The disk that holds {folder} is full ({disk.free >> 20:,} MiB free). "
            "Free some space and run again; nothing half-written is kept."
        ) from error


def _credentials(path: Path) -> tuple[str, str]:
    """Keys of the local store, drawn once; the file is readable by its owner only."""
    if not path.exists():
        keys = {"accessKey": "local", "secretKey": secrets.token_hex(20)}
        identity = {
            "name": "local",
            "credentials": [keys],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps({"identities": [identity]}))
        fresh.replace(path)
    keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return keys["accessKey"], keys["secretKey"]


@contextmanager
def _process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    # The master keeps its election state by port; ours changes with every start, so older state is of no use.
    for stale in data.glob("m[0-9]*"):
        shutil.rmtree(stale, ignore_errors=True)
    ports = free_ports(10)
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc, admin, admin_grpc = ports
    command = [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr",
        "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        "-master.telemetry=false",
        "-disableHttp",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        "-filer.disableDirListing",
        f"-s3.port={s3}",
        f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        f"-s3.config={folder / 's3.json'}",
        "-webdav=false",
        "-admin.ui=false",
        f"-admin.port={admin}",
        f"-admin.port.grpc={admin_grpc}",
    ]
    with (folder / "weed.log").open("wb") as log:
        # A session of its own, so that Ctrl-C in the terminal reaches us first and we end it in order.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=_environment(folder),
        )
    try:
        yield process, f"http://{LOOPBACK}:{s3}"
    finally:
        _stop(process)
        for port in ports:
            for socket in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)


def _environment(folder: Path) -> dict[str, str]:
    # It would take AWS keys it finds as a user of its own, over ours of the same name; WEED_ ones set what it does.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WEED_"))}
    return kept | protection(folder)


def _die_with_parent() -> None:
    """Let the kernel end the child when its parent is killed (Linux; elsewhere only an orderly end stops it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"The local store ended as it started (status {process.returncode}); its log is {log}.")
        try:
            if httpx.get(f"{endpoint}/healthz", timeout=1.0, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise UserError(f"The local store did not answer within {START_TIMEOUT_SECONDS:.0f} s; its log is {log}.")
