"""A run that was stopped ends as if it never had been; several processes end as one would."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.core.errors import UserError
from components.core.store import ObjectCorrupt, open_store
from components.train.job import Job, Outputs
from components.train.loop.checkpoint import Checkpoints
from components.train.train import train
from pipeline.local_store import RunningStore
from tests.train.conftest import ALONE, DATA_URI, TINY, SmallData

ROOT = Path(__file__).parent.parent.parent
OVERRIDES = json.dumps(
    {"batch_size": 8, "serving": "f32", "autocast": "f32", "ema_decay": 0.99, "small_epochs_share": 0.5}
)


def command(data: SmallData, output: Path, checkpoints: str, epochs: int = 4, overrides: str = OVERRIDES) -> list[str]:
    return [
        "-m", "components.train", "--shard-index", str(data.index), "--splits", str(data.splits),
        "--backbone", TINY, "--weights", "random", "--image-size", "48", "--epochs", str(epochs),
        "--overrides", overrides, "--checkpoints", checkpoints, "--checkpoint-interval", "0", "--output", str(output),
    ]  # fmt: skip


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_line(process: subprocess.Popen[str], start_of_line: str) -> str:
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.startswith(start_of_line):
            return said
    raise AssertionError(said)


def outputs_in(folder: Path) -> Outputs:
    return Outputs(folder / "model", folder / "report", folder / "curves", None, folder / "history")


def test_killed_and_terminated_runs_end_bit_identical(
    small_data: SmallData,
    job_of: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = replace(job_of(epochs=4, overrides=OVERRIDES), checkpoint_interval=0.0)
    train(job, outputs_in(tmp_path / "whole"), ALONE)

    process = start(command(small_data, tmp_path / "parts", DATA_URI))
    wait_for_line(process, "epoch 1:")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    wait_for_line(process, "Stopped by SIGTERM after step")
    assert time.monotonic() - asked < 10
    assert process.wait(timeout=60) == 143

    process = start(command(small_data, tmp_path / "parts", DATA_URI))
    said = wait_for_line(process, "epoch 3:")
    assert "Going on from" in said
    process.kill()
    process.wait()
    assert not (tmp_path / "parts" / "model").exists()

    capsys.readouterr()
    train(replace(job, checkpoints=DATA_URI), outputs_in(tmp_path / "parts"), ALONE)
    assert "Going on from s3://" in capsys.readouterr().out
    whole, parts = (tmp_path / name / "model" / "weights.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    losses = [json.loads((tmp_path / name / "history").read_text())["step_losses"] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_two_processes_give_the_loss_curve_of_one(
    small_data: SmallData, job_of: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = json.dumps({"batch_size": 9, "serving": "f32", "autocast": "f32", "dropout": 0})
    job = job_of(epochs=2, overrides=overrides)
    train(job, outputs_in(tmp_path / "one"), ALONE)
    arguments = command(small_data, tmp_path / "two", str(tmp_path / "checkpoints"), epochs=2, overrides=overrides)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc-per-node", "2"]
    process = start([*torchrun, *arguments])
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    assert said.count("epoch 2:") == 1, "only rank 0 speaks"
    one = json.loads((tmp_path / "one" / "history").read_text())
    two = json.loads((tmp_path / "two" / "history.json").read_text())
    assert two["step_losses"] == pytest.approx(one["step_losses"], rel=1e-4)
    for ours, theirs in zip(one["epochs"], two["epochs"], strict=True):
        assert theirs["images"] == ours["images"]
        assert theirs["validation_loss"] == pytest.approx(ours["validation_loss"], rel=1e-4)


def test_a_finished_run_is_not_trained_again(
    job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of("frozen", 3, checkpoints=str(tmp_path / "checkpoints"))
    train(job, outputs_in(tmp_path / "first"), ALONE)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    train(job, outputs_in(tmp_path / "second"), ALONE)
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    # The epochs are told again from the checkpoint, with the speed that they had then.
    assert len(told) == 3
    assert again == told
    first, second = (tmp_path / name / "model" / "weights.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_checkpoint_of_another_recipe_is_refused_by_field(job_of: Callable[..., Job], tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoints")
    train(job_of("frozen", 2, checkpoints=folder), outputs_in(tmp_path / "first"), ALONE)
    with pytest.raises(UserError, match=r"belongs to another run \(epochs is 2 there and 3 here\)"):
        train(job_of("frozen", 3, checkpoints=folder), outputs_in(tmp_path / "second"), ALONE)


def test_a_damaged_checkpoint_is_told_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(str(tmp_path), {"recipe": {"name": "frozen"}})
    checkpoints.save({"weights": torch.ones(1000)})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-500])
    assert checkpoints.load() is None
    assert "; training starts anew" in capsys.readouterr().out


def test_beside_a_damaged_checkpoint_the_one_before_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(str(tmp_path), {"recipe": {"name": "frozen"}})
    for step in (1, 2, 3):
        checkpoints.save({"step": step})
    newest = Path(checkpoints.where)
    newest.write_bytes(newest.read_bytes()[:100])
    restarted = Checkpoints(str(tmp_path), {"recipe": {"name": "frozen"}})
    assert restarted.load() == {"step": 2}
    assert "training goes on from the one before" in capsys.readouterr().out
    restarted.save({"step": 4})
    assert Checkpoints(str(tmp_path), {"recipe": {"name": "frozen"}}).load() == {"step": 4}


def test_a_checkpoint_that_the_store_gives_out_damaged_is_told_and_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(self: Checkpoints, name: str) -> bytes:
        raise ObjectCorrupt(f"{name} stays damaged.")

    monkeypatch.setattr(Checkpoints, "_get", damaged)
    assert Checkpoints("s3://bin-counter", {}).load() is None
    assert "training starts anew" in capsys.readouterr().out


def test_a_store_that_fails_is_tried_again_and_then_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    tries = []
    original = Checkpoints._put

    def put(self: Checkpoints, name: str, data: bytes) -> None:
        tries.append(1)
        original(self, name, data)

    monkeypatch.setattr(Checkpoints, "_put", put)
    assert Checkpoints("s3://bin-counter", {}).save({"weights": torch.ones(3)}) is False
    assert len(tries) == 3
    said = capsys.readouterr().out
    assert said.startswith("No checkpoint was written: ")
    assert "Training goes on" in said


def test_a_checkpoint_in_the_bucket_lies_under_the_fingerprint(store_environment: RunningStore) -> None:
    one, other = (Checkpoints(DATA_URI, {"seed": seed}) for seed in (1, 2))
    one.save({"step": 1})
    other.save({"step": 2})
    assert one.load() == {"step": 1}
    assert other.load() == {"step": 2}
    assert {entry.key for entry in open_store(DATA_URI).list("state/train/")} >= {
        checkpoints.where.removeprefix(f"{DATA_URI}/") for checkpoints in (one, other)
    }


FAILS_BEFORE_A_BROADCAST = """
from components.core.errors import UserError
from components.train.loop.distributed import joined

with joined() as processes:
    if processes.leads:
        raise UserError("The checkpoint cannot be read.")
    processes.from_lead(None)
"""


def test_when_rank_0_fails_before_a_broadcast_the_others_end_with_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FAILS_BEFORE_A_BROADCAST], cwd=ROOT, env=common | {"RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=280)[0] for process in started]
    assert [process.returncode for process in started] == [1, 1], said
    assert "The checkpoint cannot be read." in said[0]
