"""Whatever comes in: a 4xx with a JSON error that says what was wrong, and never a 5xx, a hang or a traceback."""

import base64
import io
import json
import socket
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.serve.conftest import RunningServer, running
from tests.small_model import photo, write_small_bundle


def assert_refused(reply: httpx.Response, status: int, *words: str) -> None:
    assert reply.status_code == status, reply.text
    content = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert "Traceback" not in reply.text
    for word in words:
        assert word in content["error"], content


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + crc + b"\0\0\0\0IDAT"


def one_pixel() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (1, 1)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b"three books and a bottle", "no image"),
        (b"<!doctype html><html><body>Not found</body></html>", "no image"),
        (photo(3)[:500], "damaged"),
        (photo(3)[:200] + bytes(4000), "damaged"),
        (one_pixel(), "1×1"),
        (png(7_000, 7_000), "7000×7000"),
        (png(20_000, 20_000), "20000×20000"),
        (png(100, 2_000_000), "100×2000000"),
    ],
)
@pytest.mark.parametrize("way", ["raw", "json", "form", "v2"])
def test_what_is_no_photo_is_refused_by_every_way(server: RunningServer, body: bytes, word: str, way: str) -> None:
    text = base64.b64encode(body).decode()
    if way == "raw":
        reply = httpx.post(server.predict, content=body, headers={"Content-Type": "image/jpeg"})
    elif way == "json":
        reply = httpx.post(server.predict, json={"instances": [{"b64": text}]})
    elif way == "form":
        reply = httpx.post(server.predict, files={"file": ("a.jpg", body)})
    else:
        inputs = [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]
        reply = httpx.post(f"{server.url}/v2/models/bin-counter/infer", json={"inputs": inputs})
    assert_refused(reply, 400, word)


GOOD = base64.b64encode(photo(2)).decode()


def with_record(data: list[Any]) -> dict[str, Any]:
    """A V2 request with one photo, and these as its records."""
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [GOOD]}
    return {"inputs": [image, {"name": "record", "datatype": "BYTES", "shape": [len(data)], "data": data}]}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 5_000, "not JSON"),
        ("[]", "instances"),
        ("null", "instances"),
        ('{"instances": []}', "instances"),
        ('{"instances": {"b64": "x"}}', "instances"),
        ('{"instances": ["x"]}', "Instance 1"),
        ('{"instances": [{"b64": 7}]}', "b64"),
        ('{"instances": [{"b64": "§§§"}]}', "base64"),
        ('{"instances": [{"b64": "abc"}]}', "base64"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_qty": 3}]}), "recorded_qty"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_quantity": -1}]}), "whole number"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_quantity": 2.5}]}), "whole number"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_quantity": True}]}), "whole number"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_quantity": "3"}]}), "whole number"),
        (json.dumps({"instances": [{"b64": GOOD, "recorded_quantity": 10**30}]}), ""),
        ('{"instances": [{"b64": "' + GOOD + '", "recorded_quantity": NaN}]}', "not JSON"),
        (json.dumps({"instances": [{"b64": GOOD, "record": 3}]}), "record of instance 1 cannot be used: it is not an"),
        (json.dumps({"instances": [{"b64": GOOD, "record": {"qty": 3}}]}), "unknown field 'qty'"),
        (json.dumps({"instances": [{"b64": GOOD, "record": {"products": [{"quantity": 1}] * 501}}]}), "500"),
        (json.dumps({"instances": [{"b64": GOOD, "record": {"quantity": 3}, "recorded_quantity": 3}]}), "one of them"),
        (json.dumps({"instances": [{"b64": GOOD}, {"b64": base64.b64encode(b"no").decode()}]}), "Photo 2 of 2"),
    ],
)
def test_wrong_json_is_refused(server: RunningServer, content: str, word: str) -> None:
    reply = httpx.post(server.predict, content=content.encode(), headers={"Content-Type": "application/json"})
    assert_refused(reply, 400, word)


@pytest.mark.parametrize("quantity", ["-1", "NaN", "2.5", "three", "", "1e3", "٣", "9" * 50])
def test_a_wrong_recorded_quantity_is_refused(server: RunningServer, quantity: str) -> None:
    reply = httpx.post(server.predict, content=photo(2), params={"recorded_quantity": quantity})
    assert_refused(reply, 400, "recorded_quantity", "whole number")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "image"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}, "data"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": [GOOD]}]}, "shape"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": "1", "data": [GOOD]}]}, "shape"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [GOOD]}]}, "BYTES"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [3]}]}, "base64"),
        ({"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [1], "data": [GOOD]}]}, "picture"),
        (with_record(["{"]), "record of image 1 is not JSON"),
        (with_record(["[1]"]), "record of image 1 cannot be used: it is not an object"),
        (with_record([7]), "not a JSON text"),
        (with_record(["{}", "{}"]), "one element for each image"),
        (with_record(['{"products": [{"quantity": 1, "length": 2, "unit": "elbow"}]}']), "has the unit 'elbow'"),
        (with_record([f'{{"quantity": 3{" " * 70_000}}}']), "at most 65,536 bytes"),
        ({"id": 5, "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [GOOD]}]}, "id"),
        (
            {
                "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [GOOD]}],
                "outputs": [{"name": "boxes"}],
            },
            "boxes",
        ),
    ],
)
def test_wrong_v2_requests_are_refused(server: RunningServer, content: dict, word: str) -> None:
    assert_refused(httpx.post(f"{server.url}/v2/models/bin-counter/infer", json=content), 400, word)


@pytest.mark.parametrize("length", ["-1", "abc", "999999999999999999999", "3"])
def test_a_wrong_binary_header_is_refused(server: RunningServer, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length, "Content-Type": "application/octet-stream"}
    reply = httpx.post(f"{server.url}/v2/models/bin-counter/infer", content=b"{}" + bytes(10), headers=headers)
    assert_refused(reply, 400)


def test_too_many_photos_are_refused(server: RunningServer) -> None:
    reply = httpx.post(server.predict, json={"instances": [{"b64": GOOD}] * 9})
    assert_refused(reply, 413, "9 photos", "at most 8")
    reply = httpx.post(server.predict, files=[("f", ("a.jpg", photo(1)))] * 9)
    assert_refused(reply, 413, "9 photos")


def test_unknown_models_paths_methods_and_types_are_refused(server: RunningServer) -> None:
    unknown = httpx.post(f"{server.url}/v1/models/other:predict", content=photo(1))
    assert_refused(unknown, 404, "other")
    assert_refused(httpx.get(f"{server.url}/v2/models/other/ready"), 404, "other")
    assert_refused(httpx.get(f"{server.url}/v2/models/bin-counter/versions/7/ready"), 404, "7")
    assert_refused(httpx.get(f"{server.url}/nowhere"), 404, "/nowhere")
    for method in ("GET", "PUT", "DELETE"):
        wrong = httpx.request(method, server.predict)
        assert_refused(wrong, 405, method)
        assert wrong.headers["allow"] == "POST"
    for kind in ("text/html", "application/pdf", "video/mp4"):
        reply = httpx.post(server.predict, content=photo(1), headers={"Content-Type": kind})
        assert_refused(reply, 415, kind, "image/jpeg")
    assert_refused(httpx.post(server.predict, content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)
    assert_refused(httpx.post(f"{server.url}/v1/models/bin-counter:explain", content=b"x"), 405, "POST")


def test_a_100_mb_body_is_refused_while_it_is_read(server: RunningServer, tmp_path: Path) -> None:
    before = server.memory
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    for how in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:"]):
        command = [
            "curl",
            "-sS",
            "-m",
            "20",
            "-w",
            "\n%{http_code} %{size_upload}",
            *how,
            "-T",
            str(path),
            "-X",
            "POST",
        ]
        done = subprocess.run([*command, server.predict], capture_output=True, text=True)
        body, _, line = done.stdout.rpartition("\n")
        status, sent = line.split()
        assert status == "413", done
        assert "larger than" in json.loads(body)["error"]
        assert int(sent) < 60_000_000
    assert server.memory - before < 120_000_000
    assert httpx.post(server.predict, content=photo(2)).is_success


def test_garbage_instead_of_http_is_answered_with_json(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        reply = connection.recv(4096)
    assert b" 400 " in reply.splitlines()[0]
    assert b'"error"' in reply


def test_grpc_refuses_with_a_status_and_a_sentence(server: RunningServer) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:

        def ask(name: str, data: bytes, model: str = "bin-counter") -> InferenceServerException:
            image = tritonclient.grpc.InferInput(name, [1], "BYTES")
            image.set_data_from_numpy(np.array([data], dtype=object))
            with pytest.raises(InferenceServerException) as refused:
                client.infer(model, [image])
            return refused.value

        assert "no image" in ask("image", b"text").message()
        assert ask("image", b"text").status() == "StatusCode.INVALID_ARGUMENT"
        assert "picture" in ask("picture", photo(1)).message()
        assert ask("image", photo(1), "other").status() == "StatusCode.NOT_FOUND"
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff no protobuf")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_slow_clients_are_cut_off(tmp_path: Path) -> None:
    """Headers that never end, and a body that never comes."""
    model = write_small_bundle(tmp_path / "model").folder
    with running(model, tmp_path / "log", "--header_seconds", "1", "--body_seconds", "1") as server:
        port = int(server.url.rpartition(":")[2])
        for start, word in (
            (b"", b"slow_headers"),
            (b"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\n", b"slow_headers"),
            (b"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", b"slow_body"),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(start)
                began = time.monotonic()
                reply = b""
                while part := connection.recv(4096):
                    reply += part
                assert time.monotonic() - began < 5
            assert b" 408 " in reply.splitlines()[0]
            assert word in reply


@pytest.mark.parametrize("start", [b"", b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], ids=["headers", "trailers"])
@pytest.mark.parametrize("part", [b"X: a\r\n" * 200, b"X: " + b"a" * 1200], ids=["many", "long"])
def test_endless_headers_are_cut_off(server: RunningServer, start: bytes, part: bytes) -> None:
    """They would be kept in memory, and ten seconds of them are gigabytes."""
    port = int(server.url.rpartition(":")[2])

    def flood(connection: socket.socket) -> None:
        for _ in range(20_000_000 // len(part)):
            connection.sendall(part)

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\n" + start)
        with pytest.raises(ConnectionError):
            flood(connection)
    assert httpx.post(server.predict, content=photo(2)).is_success


def test_headers_that_are_too_large_are_refused_with_a_sentence(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\n")
        time.sleep(0.2)
        connection.sendall(b"X: " + b"a" * 80_000)
        reply = connection.recv(4096)
    assert b" 431 " in reply.splitlines()[0]
    assert b'"large_headers"' in reply


def test_pipelined_requests_and_large_cookies_are_answered(server: RunningServer) -> None:
    """What is not too large is not refused, however it is cut."""
    port = int(server.url.rpartition(":")[2])
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 8000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for start in range(0, len(request) * 30, 5000):
            connection.sendall((request * 30)[start : start + 5000])
        reply = b""
        while reply.count(b'{"live":true}') < 30:
            part = connection.recv(65536)
            assert part, reply[-500:]
            reply += part
