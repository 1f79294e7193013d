"""`make serve` says what it serves, or in a sentence why it cannot; the store of a run that goes on is shared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import UserError
from pipeline.local_store import local_store, store_of

ROOT = Path(__file__).parent.parent.parent


def serve(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.serve", *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env=environment | {"BIN_COUNTER_HOME": str(home)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "none"], "PORT=none cannot be used: it should be a number from 0 to 65535."),
        (["--port-grpc", "70000"], "PORT_GRPC=70000 cannot be used"),
        (["--version", "3f2a91c04d5e", "--model", "m"], "VERSION and MODEL name two models; give one of them."),
        (["--model", "/nowhere"], "There is no model in '/nowhere'"),
        ([], "run `make pipeline` first"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(tmp_path: Path, words: list[str], said: str) -> None:
    ended = serve(tmp_path, *words)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_store_that_a_run_uses_is_asked_and_not_started_again(tmp_path: Path) -> None:
    with local_store(tmp_path) as running, store_of(tmp_path) as joined:
        assert joined == running
    with store_of(tmp_path) as own:
        assert own.endpoint != running.endpoint


def test_an_address_that_a_killed_run_left_is_not_believed(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        endpoint = store.endpoint
    (tmp_path / "address").write_text(endpoint)
    with store_of(tmp_path) as own:
        assert own.access_key == store.access_key


def test_where_no_run_was_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no store in"), store_of(tmp_path / "none"):
        pass
