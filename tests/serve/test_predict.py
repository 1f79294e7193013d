"""`make predict`: what the endpoint says, in words for people."""

import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.predict import in_words
from tests.serve.conftest import ROOT, RunningServer, free_port
from tests.small_model import photo


def predict(server: RunningServer | None, *words: str) -> "subprocess.CompletedProcess[str]":
    port = [] if server is None else ["--port", server.url.rpartition(":")[2]]
    command = [sys.executable, "-m", "pipeline.predict", *port, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of 2 and 4 items and of a full bin, one of them in a sub-folder, and something else."""
    (tmp_path / "more").mkdir()
    (tmp_path / "a.jpg").write_bytes(photo(2))
    (tmp_path / "more" / "b.JPG").write_bytes(photo(4))
    (tmp_path / "full.jpeg").write_bytes(photo(8))
    (tmp_path / "notes.txt").write_text("3")
    return tmp_path


def test_a_folder_is_answered_a_line_a_photo(server: RunningServer, folder: Path) -> None:
    ended = predict(server, "--image", str(folder))
    assert ended.returncode == 0
    first, full, second = ended.stdout.splitlines()
    assert re.fullmatch(r"a\.jpg +2 items \(\d+ %\) · expected \d\.\d · empty or more than 5 \S+ %", first)
    assert re.match(r"more/b\.JPG +4 items", second)
    assert re.fullmatch(r"full\.jpeg +empty, or more than 5 items \(\d+ %\) · else 5 items \(\S+ %\)", full)


def test_with_a_quantity_it_says_whether_the_record_holds_and_what_that_rests_on(
    server: RunningServer, folder: Path
) -> None:
    said = {
        quantity: predict(server, "--image", str(folder / "a.jpg"), "--quantity", quantity).stdout
        for quantity in ("2", "4", "7")
    }
    assert "agrees with the record: by photo and recorded quantity it is wrong with" in said["2"]
    assert "recount: 2 is likelier, 4 is recorded; by photo and recorded quantity it is wrong with" in said["4"]
    assert "whether the record of 7 items is right cannot be told" in said["7"]


def test_json_is_what_the_endpoint_answers_with_the_file(server: RunningServer, folder: Path) -> None:
    ended = predict(server, "--image", str(folder), "--json", "1")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["file"] for row in rows] == ["a.jpg", "full.jpeg", "more/b.JPG"]
    assert [rows[0]["count"], rows[2]["count"]] == [2, 4]


def test_a_refused_photo_is_told_the_others_are_answered_and_the_status_is_1(
    server: RunningServer, folder: Path
) -> None:
    (folder / "damaged.jpg").write_bytes(photo(2)[:200])
    ended = predict(server, "--image", str(folder))
    assert ended.returncode == 1
    assert len(ended.stdout.splitlines()) == 4
    assert re.search(r"damaged\.jpg +refused: \S+", ended.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "IMAGE is missing"),
        (["--image", "/nowhere.jpg"], "there is no such file or folder"),
        (["--image", "docker"], "holds no photos"),
        (["--image", "README.md", "--port", "http"], "PORT=http cannot be used"),
        (["--image", "README.md", "--quantity", "three"], "QUANTITY=three cannot be used"),
        (["--image", "README.md", "--json", "yes"], "JSON=yes cannot be used"),
        (["--image", "README.md", "--port", str(free_port())], "start it with make serve"),
    ],
)
def test_a_users_mistake_is_one_sentence(words: list[str], said: str) -> None:
    ended = predict(None, *words)
    assert ended.returncode == 1
    assert re.fullmatch(r"error: [^\n]+\.\n", ended.stderr)
    assert said in ended.stderr


def test_another_program_on_the_port_is_told(folder: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        ended = predict(None, "--image", str(folder / "a.jpg"), "--port", str(other.server_address[1]))
        other.shutdown()
    assert ended.returncode == 1
    assert "is no endpoint of this project" in ended.stderr


def test_a_model_that_knows_nothing_of_records_says_what_the_photo_does() -> None:
    answer = {"count": 1, "scores": [0.9995, 0.0005], "expected_count": 1.0, "out_of_range": None}
    answer |= {"mismatch_probability": None, "photo_mismatch": 0.0005, "likeliest_count": None}
    words = in_words(answer, 1)
    assert words == "1 item (100 %) · expected 1.0 · by the photo alone the record of 1 item is wrong with <0.1 %"
