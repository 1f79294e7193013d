"""The embedded store: reachable only from this machine, one user at a time, and gone when its block ends."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from components.core.errors import UserError
from components.core.store import ObjectExists, open_store
from pipeline.local_store import RunningStore, local_store


def weeds_of(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if f"-dir={folder / 'data'}" in (p.info["cmdline"] or [])]


def use(store: RunningStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_store(tmp_path, ["kept"]) as store:
        use(store, monkeypatch)
        open_store("s3://kept").put("a/b", b"bytes")
    assert not weeds_of(tmp_path)
    with local_store(tmp_path, ["kept"]) as store:
        use(store, monkeypatch)
        assert open_store("s3://kept").get("a/b") == b"bytes"


def test_every_port_is_bound_to_loopback_only(tmp_path: Path) -> None:
    with local_store(tmp_path):
        (weed,) = weeds_of(tmp_path)
        listening = [c.laddr.ip for c in weed.connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_no_port_takes_a_write_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users of the machine reach loopback too: HTTP asks for a signed token, gRPC for a certificate."""
    with local_store(tmp_path, ["kept"]) as store:
        use(store, monkeypatch)
        open_store("s3://kept").put("a", b"ours")
        (weed,) = weeds_of(tmp_path)
        ports = sorted({c.laddr.port for c in weed.connections("inet") if c.status == psutil.CONN_LISTEN})
        taken = []
        paths = ("buckets/kept/a", "kept/a", "dir/assign", "submit", "vol/grow?count=1", "col/delete?collection=kept")
        for port, method, path in itertools.product(ports, ("PUT", "POST", "DELETE"), paths):
            try:
                reply = httpx.request(method, f"http://127.0.0.1:{port}/{path}", content=b"theirs", trust_env=False)
            except httpx.HTTPError:
                continue  # a port of gRPC
            if reply.is_success:
                taken.append((port, method, path))
        for port in ports:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
                channel.unary_unary("/filer_pb.SeaweedFiler/Ping")(b"", timeout=2)
        assert taken == []
        assert open_store("s3://kept").get("a") == b"ours"
        assert [entry.key for entry in open_store("s3://kept").list()] == ["a"]


def test_no_socket_stays_behind(tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))
    with local_store(tmp_path):
        pass
    assert set(Path("/tmp").glob("seaweedfs-*.sock")) <= before


def test_a_second_run_on_the_same_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with local_store(tmp_path), pytest.raises(UserError, match="Another run uses the store"), local_store(tmp_path):
        pass


def test_the_secret_is_random_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    with local_store(tmp_path / "one") as one, local_store(tmp_path / "two") as two:
        assert one.secret_key != two.secret_key
    assert (tmp_path / "one" / "s3.json").stat().st_mode & 0o077 == 0


def test_of_two_conditional_writers_one_wins(store_environment: RunningStore) -> None:
    store = open_store("s3://bin-counter")
    store.create("conditional", b"first")
    with pytest.raises(ObjectExists):
        store.create("conditional", b"second")
    assert store.get("conditional") == b"first"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_store_outlives_a_killed_run(tmp_path: Path, how: signal.Signals) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipeline.local_store import local_store\n"
        "with local_store(Path(sys.argv[1])): print('up', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    run.send_signal(how)
    run.wait()
    deadline = time.monotonic() + 10
    while weeds_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not weeds_of(tmp_path)
