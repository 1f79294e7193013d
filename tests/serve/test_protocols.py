"""Every way to ask, with the clients that others wrote."""

import base64
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.serve.conftest import ROOT, RunningServer
from tests.small_model import photo

FIELDS = {"count", "scores", "expected_count", "out_of_range", "model_version"}
OF_RECORD = {"mismatch_probability", "photo_mismatch", "likeliest_count"}


def b64(count: int) -> str:
    return base64.b64encode(photo(count)).decode()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_jpeg_body_is_counted(server: RunningServer, count: int) -> None:
    reply = httpx.post(server.predict, content=photo(count), headers={"Content-Type": "image/jpeg"})
    assert reply.status_code == 200
    (answer,) = reply.json()["predictions"]
    assert set(answer) == FIELDS
    assert answer["count"] == count == np.argmax(answer["scores"]) + 1
    assert sum(answer["scores"]) == pytest.approx(1, abs=1e-5)
    assert answer["expected_count"] == pytest.approx(np.dot(answer["scores"], range(1, 6)), abs=1e-5)
    assert 0 <= answer["out_of_range"] <= 1
    assert re.fullmatch("[0-9a-f]{12}", answer["model_version"])


@pytest.mark.parametrize(
    "kind",
    [
        "image/jpeg",
        "image/png",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        None,
        "IMAGE/JPEG; a=b",
    ],
)
def test_every_raw_content_type_gives_the_same_answer(server: RunningServer, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    reply = httpx.post(server.predict, content=photo(4), headers=headers)
    assert reply.json()["predictions"][0]["count"] == 4


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_batches_are_answered_in_order(server: RunningServer, kind: str) -> None:
    content = json.dumps({"instances": [{"b64": b64(count)} for count in (5, 1, 3)]})
    reply = httpx.post(server.predict, content=content, headers={"Content-Type": kind})
    assert [answer["count"] for answer in reply.json()["predictions"]] == [5, 1, 3]


def test_a_form_takes_several_files_and_their_quantities(server: RunningServer) -> None:
    files = [("photo", (f"{count}.jpg", photo(count), "image/jpeg")) for count in (2, 4)]
    reply = httpx.post(server.predict, files=files, data={"recorded_quantity": ["2", "1"]})
    first, second = reply.json()["predictions"]
    assert (first["count"], second["count"]) == (2, 4)
    assert first["mismatch_probability"] < 0.5 < second["mismatch_probability"]


def test_curl_with_its_default_type_and_with_a_form(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "bin.jpg"
    path.write_bytes(photo(3))
    for how in (["--data-binary", f"@{path}"], ["-F", f"file=@{path}"], ["-T", str(path), "-X", "POST"]):
        done = subprocess.run(["curl", "-sS", *how, server.predict], capture_output=True, check=True)
        assert json.loads(done.stdout)["predictions"][0]["count"] == 3


@pytest.mark.parametrize("quantity", [0, 1, 3, 5, 6, 500])
def test_a_recorded_quantity_is_judged_alike_in_json_query_and_v2(server: RunningServer, quantity: int) -> None:
    raw = httpx.post(server.predict, content=photo(3), params={"recorded_quantity": quantity}).json()
    instances = [{"b64": b64(3), "recorded_quantity": quantity}]
    by_json = httpx.post(server.predict, json={"instances": instances}).json()
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(3)]},
        {"name": "recorded_quantity", "datatype": "INT64", "shape": [1], "data": [quantity]},
    ]
    v2 = httpx.post(f"{server.url}/v2/models/bin-counter/infer", json={"inputs": inputs}).json()
    (answer,) = raw["predictions"]
    assert set(answer) == FIELDS | OF_RECORD
    known = 0 <= quantity <= 5
    assert (answer["mismatch_probability"] is not None) == (answer["likeliest_count"] is not None) == known
    if 1 <= quantity <= 5:
        holds = (1 - answer["out_of_range"]) * answer["scores"][quantity - 1]
        assert answer["photo_mismatch"] == pytest.approx(1 - holds, abs=1e-9)
    assert by_json == raw
    outputs = {output["name"]: output["data"] for output in v2["outputs"]}
    for name in ("mismatch_probability", "photo_mismatch"):
        assert outputs[name] == [pytest.approx(answer[name], abs=1e-6) if known else None]
    assert outputs["likeliest_count"] == [answer["likeliest_count"] if known else -1]


RECORD = {
    "quantity": 3,
    "products": [
        {"quantity": 2, "length": 20, "width": 10, "height": 5, "unit": "cm", "weight": 0.4, "weight_unit": "kg"},
        {"quantity": 1},
    ],
}


def test_a_record_with_products_is_judged_alike_in_json_v2_and_grpc(server: RunningServer) -> None:
    instances = [{"b64": b64(3), "record": RECORD}, {"b64": b64(3)}]
    with_record, without = httpx.post(server.predict, json={"instances": instances}).json()["predictions"]
    assert set(with_record) == FIELDS | OF_RECORD
    assert set(without) == FIELDS
    assert with_record["mismatch_probability"] < 0.1
    assert with_record["likeliest_count"] == 3
    for library, url in ((tritonclient.http, server.url.removeprefix("http://")), (tritonclient.grpc, server.grpc)):
        with library.InferenceServerClient(url) as client:
            image = library.InferInput("image", [2], "BYTES")
            image.set_data_from_numpy(np.array([photo(3), photo(3)], dtype=object))
            record = library.InferInput("record", [2], "BYTES")
            record.set_data_from_numpy(np.array([json.dumps(RECORD).encode(), b""], dtype=object))
            reply = client.infer("bin-counter", [image, record])
        told, untold = reply.as_numpy("mismatch_probability")
        assert told == pytest.approx(with_record["mismatch_probability"], abs=1e-6)
        assert np.isnan(untold)
        assert reply.as_numpy("likeliest_count").tolist() == [3, -1]


def test_v2_json_echoes_the_id_and_gives_one_when_there_is_none(server: RunningServer) -> None:
    url = f"{server.url}/v2/models/bin-counter/infer"
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [2], "data": [b64(2), b64(5)]}]
    reply = httpx.post(url, json={"id": "q-7", "inputs": inputs}).json()
    assert reply["id"] == "q-7"
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert outputs["count"] == {"name": "count", "datatype": "INT64", "shape": [2], "data": [2, 5]}
    assert outputs["scores"]["shape"] == [2, 5]
    assert uuid.UUID(httpx.post(url, json={"inputs": inputs}).json()["id"])


def test_v2_gives_only_the_outputs_asked_for(server: RunningServer) -> None:
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(2)]}]
    url = f"{server.url}/v2/models/bin-counter/infer"
    reply = httpx.post(url, json={"inputs": inputs, "outputs": [{"name": "count"}]}).json()
    assert [output["name"] for output in reply["outputs"]] == ["count"]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tritonclient_sends_jpeg_bytes_and_reads_tensors(
    server: RunningServer, protocol: str, shape: list[int]
) -> None:
    library = getattr(tritonclient, protocol)
    with library.InferenceServerClient(
        server.grpc if protocol == "grpc" else server.url.removeprefix("http://")
    ) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("bin-counter")
        metadata = client.get_model_metadata("bin-counter")
        name = metadata["name"] if protocol == "http" else metadata.name
        assert name == "bin-counter"
        image = library.InferInput("image", shape, "BYTES")
        image.set_data_from_numpy(np.array([photo(1), photo(4)], dtype=object).reshape(shape))
        quantity = library.InferInput("recorded_quantity", [2], "INT32")
        quantity.set_data_from_numpy(np.array([1, 2], np.int32))
        reply = client.infer("bin-counter", [image, quantity], request_id="t-1")
        assert reply.as_numpy("count").tolist() == [1, 4]
        assert reply.as_numpy("scores").shape == (2, 5)
        assert reply.as_numpy("mismatch_probability")[1] > 0.5
        response = reply.get_response()
        assert (response["id"] if protocol == "http" else response.id) == "t-1"


def test_kserves_own_clients_get_counts(server: RunningServer, tmp_path: Path) -> None:
    """In a process of its own, as a user would write it."""
    (tmp_path / "bin.jpg").write_bytes(photo(4))
    script = tmp_path / "ask.py"
    script.write_text(_KSERVE_CLIENTS)
    command = [sys.executable, str(script), server.url, server.grpc, str(tmp_path / "bin.jpg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "4", "4", "True", "True"]


_KSERVE_CLIENTS = """
import asyncio, base64, sys
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def main(url, grpc, path):
    data = open(path, "rb").read()
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    reply = await v1.infer(url, {"instances": [{"b64": base64.b64encode(data).decode()}]}, model_name="bin-counter")
    print(reply["predictions"][0]["count"])
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    text = InferInput("image", [1], "BYTES", data=[base64.b64encode(data).decode()])
    reply = await v2.infer(url, InferRequest("bin-counter", [text]), model_name="bin-counter")
    print(reply.outputs[0].data[0])
    client = InferenceGRPCClient(grpc)
    image = InferInput("image", [1], "BYTES", data=[data])
    reply = await client.infer(InferRequest("bin-counter", [image]))
    print(int(reply.outputs[0].as_numpy()[0]))
    print(await client.is_model_ready("bin-counter"))
    print(await v2.is_server_ready(url))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "path", ["index", "models/bin-counter/load", "models/bin-counter/unload", "models/second/load"]
)
def test_nobody_loads_or_unloads_a_model_over_http(server: RunningServer, path: str) -> None:
    """A port that counts photos is no place to change what counts them; a page of anybody's could do it."""
    reply = httpx.post(f"{server.url}/v2/repository/{path}", headers={"Content-Type": "text/plain"}, content=b"x")
    assert (reply.status_code, set(reply.json())) == (404, {"error", "reason"})
    assert httpx.post(server.predict, content=photo(2)).is_success


def test_nobody_loads_or_unloads_a_model_over_grpc(server: RunningServer) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException) as refused:
                change("bin-counter")
            assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
        assert client.is_model_ready("bin-counter")


def test_metrics_name_outcomes_stages_counts_and_reasons(server: RunningServer) -> None:
    before = server.metrics()
    httpx.post(server.predict, content=photo(2))
    httpx.post(server.predict, content=b"no image")
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('bin_counter_requests_total{outcome="answered",protocol="v1"}') == 1
    assert grown('bin_counter_requests_total{outcome="refused",protocol="v1"}') == 1
    assert grown('bin_counter_rejected_total{reason="not_an_image"}') == 1
    assert grown('bin_counter_predicted_total{count="2",model="bin-counter"}') == 1
    assert grown('bin_counter_stage_seconds_count{stage="infer"}') == 1
    assert grown('bin_counter_stage_seconds_count{stage="decode"}') == 2
    assert grown("bin_counter_batch_size_count") == 1
    assert after["bin_counter_queue_photos"] == 0
    assert any(name.startswith('bin_counter_drift{model="bin-counter",signal="counts",version="') for name in after)
