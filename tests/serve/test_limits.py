"""Memory and time of what requests become, and who gives way when there is not enough."""

import asyncio
import concurrent.futures
import gzip
import http.client
import logging
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from tritonclient.grpc import service_pb2 as pb

from benchmarks.attack.slow import hold_bodies, hold_calls
from components.core.image_file import ImageFile
from components.core.pixels import decode_squashed
from components.serve import v1, v2
from components.serve.answers import Photo
from components.serve.coding import Decoder
from components.serve.engine import Engine, EngineOptions
from components.serve.guard import Guard, check_page, hosts_of
from components.serve.limits import Memory, RequestLimits
from components.serve.logs import escape_control_characters
from components.serve.refusal import Refusal
from components.serve.wire import check_infer_request
from tests.core.test_pixels import saved
from tests.serve.conftest import RunningServer, running
from tests.small_model import photo, write_small_bundle

LIMITS = RequestLimits(total_bytes=1000, reserved_bytes=300, small_bytes=50)


def test_large_requests_leave_room_for_small_ones() -> None:
    async def scenario() -> None:
        memory = Memory(LIMITS)
        with memory.share() as large, memory.share() as small, memory.share() as other:
            large.hold(700)
            with pytest.raises(Refusal) as refused:
                other.hold(51)
            assert (refused.value.status, refused.value.retry_after) == (503, 1)
            small.hold(50)
        with memory.share() as next_one:
            next_one.hold(700)  # everything was given back

    asyncio.run(scenario())


def test_the_request_that_was_received_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "patience", 0.01)

    async def scenario() -> None:
        memory = Memory(LIMITS)
        with memory.share() as slow, memory.share() as newcomer:
            slow.hold(700)

            async def receive() -> None:
                async with asyncio.timeout(60) as slow.receiving:
                    await asyncio.sleep(60)

            receiving = asyncio.create_task(receive())
            await asyncio.sleep(0.05)
            with pytest.raises(Refusal):
                newcomer.hold(100)
            with pytest.raises(TimeoutError):
                await receiving
            assert slow.is_evicted

    asyncio.run(scenario())


@pytest.mark.parametrize("unit", [b'{"":0},', b"[],", b'"",', b'{"b64":""},', b"[" * 900 + b"]" * 900 + b","])
def test_json_of_many_parts_is_refused_before_it_is_parsed(unit: bytes) -> None:
    body = b'{"instances":[' + unit * (20_000_000 // len(unit)) + b"0]}"
    began = time.process_time()
    for parse in (
        lambda: v1.photos_from_json(body, 8, RequestLimits().json_parts),
        lambda: v2.request_from_http(body, None, 8, RequestLimits().json_parts),
    ):
        with pytest.raises(Refusal) as refused:
            parse()
        assert refused.value.status == 413
    assert time.process_time() - began < 0.2


def infer_request(**change: object) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="bin-counter", **change)
    image = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(photo(3))
    return request


def test_a_message_of_photos_is_let_through_and_one_of_many_elements_is_not() -> None:
    check_infer_request(infer_request(id="7").SerializeToString())
    many_inputs, many_photos, many_numbers, long_name = (infer_request() for _ in range(4))
    for _ in range(100_000):
        many_inputs.inputs.add()
    many_photos.inputs[0].contents.bytes_contents.extend([b""] * 100_000)
    many_numbers.inputs[0].contents.int64_contents.extend([1] * 100_000)
    long_name.model_name = "x" * 1_000_000
    for request in (many_inputs, many_photos, many_numbers, long_name):
        with pytest.raises(Refusal) as refused:
            check_infer_request(request.SerializeToString())
        assert refused.value.status == 413
    for broken in (b"\x2a\xff\xff\xff\xff\x7f", b"\xff" * 20, b"\x0b", b"\x2a"):
        with pytest.raises(Refusal):
            check_infer_request(broken)


def test_a_binary_tensor_of_empty_elements_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(Refusal):
        v2.photos_from_tensors([v2.Tensor("image", "BYTES", (1,), raw=bytes(20_000_000))], 8, base64_values=False)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    "compress", [gzip.compress, zlib.compress, lambda data: gzip.compress(data) + gzip.compress(b"")]
)
def test_bodies_are_decoded_in_pieces(compress: Callable[[bytes], bytes]) -> None:
    decoder = Decoder.of("gzip")
    assert decoder is not None
    data = bytes(3_000_000) + photo(2)
    pieces = list(decoder.pieces(compress(data)))
    decoder.end()
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 256 * 1024


def test_a_body_of_many_members_is_refused_before_it_costs_much() -> None:
    """Each member has its own decoder, and what follows it is copied: so many take time that grows with the square."""
    decoder = Decoder.of("gzip")
    assert decoder is not None
    thousand = gzip.compress(b"", mtime=0) * 1_000
    assert b"".join(decoder.pieces(thousand)) == b""
    with pytest.raises(Refusal, match="more than 1,000 parts"):
        list(decoder.pieces(thousand))


def test_bytes_that_decode_to_nothing_count_as_received() -> None:
    """A chunked body of empty blocks would else go on for ever: what arrives gives it more time."""
    header, block = gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff"  # RFC 1951, 3.2.4: stored, 0 bytes
    limits = RequestLimits(body_bytes=10_000)
    sent = 0

    async def receive() -> dict[str, object]:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": block * 50 if sent > 1 else header, "more_body": True}

    async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()

    answers: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-encoding", b"gzip")]}

    async def ask() -> None:
        await asyncio.wait_for(Guard(read_all, limits, Memory(limits), None)(scope, receive, send), 20)

    asyncio.run(ask())
    assert answers[0]["status"] == 413
    assert sent * len(block) * 50 < 3 * limits.body_bytes


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "GZIP"])
def test_a_compressed_photo_is_counted(server: RunningServer, coding: str) -> None:
    compress = zlib.compress if coding == "deflate" else gzip.compress
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": coding}
    reply = httpx.post(server.predict, content=compress(photo(4)), headers=headers)
    assert reply.json()["predictions"][0]["count"] == 4


def test_other_codings_bombs_and_halves_are_refused_with_a_sentence(server: RunningServer) -> None:
    def ask(body: bytes, coding: str) -> httpx.Response:
        headers = {"Content-Type": "image/jpeg", "Content-Encoding": coding}
        return httpx.post(server.predict, content=body, headers=headers, timeout=60)

    for coding in ("br", "zstd", "gzip, gzip"):
        unknown = ask(photo(4), coding)
        assert (unknown.status_code, unknown.headers["accept-encoding"]) == (415, "gzip, deflate")
        assert coding in unknown.json()["error"]
    assert ask(gzip.compress(bytes(100_000_000)), "gzip").status_code == 413
    for body in (photo(4), gzip.compress(photo(4))[:-30]):
        assert ask(body, "gzip").json()["reason"] == "bad_encoding"


def test_small_photos_are_counted_while_large_uploads_stay_unfinished(server: RunningServer) -> None:
    """Eight connections that hold 32 MiB each, less a byte."""
    until = time.monotonic() + 4
    holding = threading.Thread(
        target=hold_bodies, args=(int(server.url.rpartition(":")[2]), 8, 32 * 1024 * 1024, until)
    )
    holding.start()
    answers = []
    while time.monotonic() < until:
        answers.append(httpx.post(server.predict, content=photo(3), timeout=60).status_code)
        time.sleep(0.1)
    holding.join()
    assert set(answers) == {200}


@pytest.mark.parametrize(("calls", "length"), [(256, 0), (60, 29 * 1024 * 1024)])
def test_calls_that_never_end_keep_nobody_out_and_take_little_memory(
    server: RunningServer, calls: int, length: int
) -> None:
    import tritonclient.grpc

    before = server.memory
    until = time.monotonic() + 5
    port = int(server.grpc.rpartition(":")[2])
    holding = threading.Thread(target=hold_calls, args=(port, calls, length, until))
    holding.start()
    slowest, most = 0.0, 0
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        while time.monotonic() < until:
            image = tritonclient.grpc.InferInput("image", [1], "BYTES")
            image.set_data_from_numpy(np.array([photo(2)], dtype=object))
            began = time.monotonic()
            assert client.infer("bin-counter", [image], client_timeout=60).as_numpy("count").tolist() == [2]
            slowest, most = max(slowest, time.monotonic() - began), max(most, server.memory)
    holding.join()
    assert most - before < 400_000_000  # four messages of 32 MiB, and what is freed but not yet given back
    assert slowest < 10


def outcome(server: RunningServer, protocol: str, name: str) -> float:
    return server.metrics().get(f'bin_counter_requests_total{{outcome="{name}",protocol="{protocol}"}}', 0)


def test_who_leaves_is_an_outcome_of_its_own(server: RunningServer) -> None:
    """Not a failure, which would wake somebody up, and no traceback."""
    port = int(server.url.rpartition(":")[2])
    data = photo(3)
    head = b"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"
    before, failed = outcome(server, "v1", "abandoned"), outcome(server, "v1", "failed")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(data) + data[:-100])
            time.sleep(0.02)
    deadline = time.monotonic() + 20
    while outcome(server, "v1", "abandoned") < before + 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outcome(server, "v1", "abandoned") == before + 20
    assert outcome(server, "v1", "failed") == failed
    assert "Traceback" not in server.log.read_text()


def test_the_photos_of_who_left_leave_the_queue(tmp_path: Path) -> None:
    """The only worker is held up by a photo; what waits behind it belongs to a caller who goes."""
    engine = Engine(write_small_bundle(tmp_path / "model"), EngineOptions(runtime="openvino", threads=1, queue_limit=9))
    engine.start()
    held = saved(Image.new("RGB", (3500, 3500)), "PNG")

    async def scenario() -> None:
        first = asyncio.create_task(engine.count([Photo(held)]))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(engine.count([Photo(photo(1))] * 8))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        assert len(engine._waiting) <= 1
        assert (await engine.count([Photo(photo(2))] * 8))[0].count == 2
        await first

    asyncio.run(scenario())
    assert engine.close(10)


def test_small_photos_pass_large_ones_of_which_one_is_decoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import components.serve.engine as module

    monkeypatch.setattr(module, "_LARGE_BYTES", 1_000_000)
    running_now, most = 0, 0
    lock = threading.Lock()

    def counted(file: ImageFile, size: int) -> np.ndarray:
        nonlocal running_now, most
        if file.memory > 1_000_000:
            with lock:
                running_now += 1
                most = max(most, running_now)
            time.sleep(0.2)
            with lock:
                running_now -= 1
        return decode_squashed(file.picture, size)

    monkeypatch.setattr(module, "squash", counted)
    engine = Engine(write_small_bundle(tmp_path / "model"), EngineOptions(runtime="openvino", threads=2))
    engine.start()
    large = saved(Image.new("RGB", (600, 600), (90, 90, 90)), "PNG")
    order: list[str] = []

    async def ask(name: str, data: bytes) -> None:
        await engine.count([Photo(data)])
        order.append(name)

    async def scenario() -> None:
        some = [asyncio.create_task(ask("large", large)) for _ in range(5)]
        await asyncio.sleep(0.05)
        await asyncio.gather(*some, *(ask("small", photo(2)) for _ in range(5)))

    asyncio.run(scenario())
    assert most == 1
    assert order.index("small") <= 1
    assert order[-1] == "large"
    assert engine.close(10)


def test_too_many_large_photos_are_refused_and_small_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import components.serve.engine as module

    monkeypatch.setattr(module, "_LARGE_BYTES", 1_000_000)
    engine = Engine(write_small_bundle(tmp_path / "model"), EngineOptions(runtime="openvino", threads=2, queue_limit=8))
    engine.start()
    large = Photo(saved(Image.new("RGB", (2000, 2000)), "PNG"))

    async def scenario() -> None:
        with pytest.raises(Refusal) as refused:
            await engine.count([large] * 8)
        assert refused.value.status == 503
        assert (await engine.count([Photo(photo(3))]))[0].count == 3

    asyncio.run(scenario())
    engine.close(30)


def test_a_steady_upload_may_be_slow(tmp_path: Path) -> None:
    model = write_small_bundle(tmp_path / "model").folder
    data = photo(3) + bytes(400_000)
    with running(model, tmp_path / "log", "--body_seconds", "1") as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=60)
        connection.putrequest("POST", "/v1/models/bin-counter:predict")
        connection.putheader("Content-Type", "image/jpeg")
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        began = time.monotonic()
        for start in range(0, len(data), 20_000):
            connection.send(data[start : start + 20_000])
            time.sleep(0.1)
        assert connection.getresponse().status == 200
        assert time.monotonic() - began > 2


def test_a_form_needs_no_folder_that_can_be_written(server: RunningServer) -> None:
    """Large files of a form are kept in memory, as bodies are."""
    files = {"file": ("a.jpg", photo(3) + bytes(3_000_000))}
    assert httpx.post(server.predict, files=files).json()["predictions"][0]["count"] == 3
    opened = [link.readlink() for link in Path(f"/proc/{server.process.pid}/fd").iterdir() if link.is_symlink()]
    assert not [path for path in opened if "(deleted)" in str(path)]


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),
        ({"host": "anything"}, True),
        ({"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"}, True),
        ({"origin": "http://localhost:8001", "host": "localhost:8080", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://[::1]:8080", "host": "[::1]:8080"}, True),
        ({"origin": "http://evil.example", "host": "127.0.0.1:8080"}, False),
        ({"origin": "http://evil.example:8080", "host": "evil.example:8080"}, False),
        ({"origin": "http://evil.example:8080", "host": "evil.example:8080", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://127.0.0.1:9999", "host": "127.0.0.1:8080", "sec-fetch-site": "same-site"}, False),
        ({"origin": "null", "host": "127.0.0.1:8080"}, False),
        ({"sec-fetch-site": "cross-site", "host": "127.0.0.1:8080"}, False),
    ],
)
def test_scripts_of_other_pages_are_turned_away(headers: dict[str, str], is_let_in: bool) -> None:
    hosts = hosts_of("127.0.0.1", ())
    if is_let_in:
        check_page(Headers(headers), hosts)
    else:
        with pytest.raises(Refusal, match="another site"):
            check_page(Headers(headers), hosts)


def test_names_of_a_server_for_everybody_are_checked_only_where_they_are_given() -> None:
    own = Headers({"origin": "https://counter.example", "host": "counter.example"})
    check_page(own, hosts_of("0.0.0.0", ()))
    check_page(own, hosts_of("127.0.0.1", ("counter.example",)))
    with pytest.raises(Refusal):
        check_page(own, hosts_of("0.0.0.0", ("other.example",)))


def test_log_lines_are_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    factory = logging.getLogRecordFactory()
    escape_control_characters()
    try:
        with caplog.at_level(logging.INFO):
            logging.getLogger("test").info("a model %s", "x\nINFO all is well\x1b[2J\r\u2028y")
            try:
                raise ValueError("a\nINFO all is well\x07")
            except ValueError:
                logging.getLogger("test").exception("failed")
    finally:
        logging.setLogRecordFactory(factory)
    text = logging.Formatter().format(caplog.records[0])
    assert text == r"a model x\nINFO all is well\x1b[2J\r\u2028y"
    failure = logging.Formatter().format(caplog.records[1])
    assert not [line for line in failure.splitlines()[1:] if line[:1] not in (" ", "T")]
    assert "\x07" not in failure


def test_the_end_comes_in_time_with_a_decoder_at_work(tmp_path: Path) -> None:
    """The process ends within ten seconds of SIGTERM, and what is not answered is told so in JSON."""
    model = write_small_bundle(tmp_path / "model").folder
    large = saved(Image.new("RGBA", (6300, 6300)), "PNG", compress_level=1)
    with running(model, tmp_path / "log", "--threads", "1", "--enable_grpc", "false") as server:

        def ask() -> httpx.Response | None:
            try:
                return httpx.post(server.predict, files=[("f", ("a.png", large))] * 8, timeout=60)
            except httpx.HTTPError:
                return None

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask) for _ in range(2)]
            time.sleep(1.5)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            assert time.monotonic() - began < 11
            for one in asking:
                reply = one.result()
                assert reply is None or "predictions" in reply.json() or "error" in reply.json()
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_everything_at_once_beside_honest_photos(tmp_path: Path) -> None:
    """The short form of `make attack-serve`."""
    from benchmarks.attack.__main__ import attack

    result = attack(write_small_bundle(tmp_path / "model").folder, 15, 7, tmp_path / "log", rest=10)
    assert result.undeserved == {}
    assert result.memory_peak < 1.2 * 1024**3
    assert result.end_seconds <= 10
