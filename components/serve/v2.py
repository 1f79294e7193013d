"""The V2 protocol (Open Inference Protocol) over HTTP and gRPC.

Input `image`, BYTES [n] or [n, 1]: image files, as base64 in JSON, as they are in the binary extension and gRPC.
One input of the same shape may be added: `recorded_quantity`, INT32 or INT64, or `record`, BYTES, each a record as JSON
text, empty for none. Outputs have n rows: count INT64, scores FP32 [n, max_count], expected_count FP32, out_of_range
FP32 (where the model has it), and what `fields.py` names besides when anything was on record.
"""

import math
import struct
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from components.core.contents import BinRecord
from components.serve.answers import Answer, Photo
from components.serve.fields import FIELDS, Field
from components.serve.refusal import bad_request
from components.serve.v1 import (
    QUANTITY,
    RECORD,
    check_number,
    checked_quantity,
    checked_record,
    from_base64,
    parsed_json,
)

IMAGE = "image"
_MOST_RECORD = 64 * 1024  # bytes of a record, as what is not photos in a message over gRPC
JSON_LENGTH_HEADER = "inference-header-content-length"
_INTEGERS: dict[str, np.dtype[Any]] = {"INT32": np.dtype("<i4"), "INT64": np.dtype("<i8")}


@dataclass(frozen=True)
class Tensor:
    """A tensor as it came: `values` decoded from JSON or gRPC contents, or `raw` bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any] | None = None
    raw: bytes | None = None


@dataclass(frozen=True)
class WantedOutput:
    """An output that was asked for by name."""

    name: str
    binary: bool | None = None  # None: as the request says for all outputs


@dataclass(frozen=True)
class V2Request:
    """A V2 request, whatever way it came. Empty `outputs` means all of them."""

    id: str
    photos: list[Photo]
    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False  # answer all outputs in binary unless one says otherwise


@dataclass(frozen=True)
class OutputTensor:
    """One output: `values` has the tensor's shape."""

    name: str
    datatype: str
    values: NDArray[Any]


def request_from_http(body: bytes, json_length: str | None, limit: int, most_parts: int) -> V2Request:
    """Parse a JSON body, or JSON followed by binary tensors. Raises Refusal."""
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit()) or int(json_length[:12]) > len(body):
            raise bad_request(
                "bad_header", "Inference-Header-Content-Length must be the length of the body's JSON part."
            )
        head, rest = body[: int(json_length)], memoryview(body)[int(json_length) :]
    else:
        head, rest = body, memoryview(b"")
    content = parsed_json(head, most_parts)
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise bad_request("missing_field", f'The request needs "inputs", a list with the BYTES tensor "{IMAGE}".')
    identity = content.get("id", "")
    if not isinstance(identity, str):
        raise bad_request("bad_field", '"id" must be a string.')
    tensors = []
    for entry in content["inputs"]:
        tensor, used = _tensor_from_json(entry, rest)
        tensors.append(tensor)
        rest = rest[used:]
    if len(rest):
        raise bad_request("bad_binary", f"{len(rest)} bytes follow the tensors that the JSON part names.")
    return V2Request(
        identity or str(uuid.uuid4()),
        photos_from_tensors(tensors, limit, base64_values=True),
        _wanted_outputs(content.get("outputs")),
        _parameter(content, "binary_data_output") is True,
    )


def _tensor_from_json(entry: Any, rest: memoryview) -> tuple[Tensor, int]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise bad_request("missing_field", 'Every input needs "name", "datatype", "shape" and "data".')
    name, shape = entry["name"], entry.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape) or not shape:
        raise bad_request("bad_shape", f'Input "{name:.60}" needs "shape", a list of whole numbers.')
    if not isinstance(entry.get("datatype"), str):
        raise bad_request("missing_field", f'Input "{name:.60}" needs "datatype".')
    size = _parameter(entry, "binary_data_size")
    if size is None:
        values = entry.get("data")
        if not isinstance(values, list):
            raise bad_request("missing_field", f'Input "{name:.60}" needs "data", a list.')
        return Tensor(name, entry["datatype"], tuple(shape), values=_flat(name, values, shape)), 0
    if type(size) is not int or not 0 <= size <= len(rest):
        raise bad_request("bad_binary", f'Input "{name:.60}": binary_data_size does not fit the body.')
    return Tensor(name, entry["datatype"], tuple(shape), raw=bytes(rest[:size])), size


def _flat(name: str, values: list[Any], shape: list[int]) -> list[Any]:
    """The values one after the other; they may come nested, but then as the shape says. Raises Refusal."""
    if not any(isinstance(value, list) for value in values):
        return values
    if (
        len(shape) != 2
        or len(values) != shape[0]
        or not all(isinstance(value, list) and len(value) == shape[1] for value in values)
    ):
        raise bad_request("bad_shape", f'The data of input "{name:.60}" is nested unlike its shape {shape!r:.60}.')
    return [inner for value in values for inner in value]


def _parameter(entry: dict[str, Any], name: str) -> Any:
    parameters = entry.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _wanted_outputs(entries: Any) -> tuple[WantedOutput, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise bad_request("bad_field", '"outputs" must be a list of {"name": …}.')
    return tuple(WantedOutput(entry["name"], _wish(entry)) for entry in entries)


def _wish(entry: dict[str, Any]) -> bool | None:
    wish = _parameter(entry, "binary_data")
    return wish if isinstance(wish, bool) else None


def photos_from_tensors(tensors: list[Tensor], limit: int, *, base64_values: bool) -> list[Photo]:
    """Photos from the tensors `image` and, if there is one, `recorded_quantity` or `record`. Raises Refusal."""
    names = [tensor.name[:100] for tensor in tensors[:4]]
    if len(tensors) > 2 or sorted(names) not in ([IMAGE], [IMAGE, QUANTITY], [IMAGE, RECORD]):
        raise bad_request(
            "bad_inputs",
            f'The inputs must be "{IMAGE}" and, if wanted, "{QUANTITY}" or "{RECORD}"; got {names!r:.200}.',
        )
    by_name = {tensor.name: tensor for tensor in tensors}
    image = by_name[IMAGE]
    if image.datatype != "BYTES":
        raise bad_request("bad_datatype", f'Input "{IMAGE}" must have the datatype BYTES, image files.')
    if len(image.shape) > 2:
        raise bad_request("bad_shape", f'Input "{IMAGE}" must have the shape [n] or [n, 1].')
    check_number(math.prod(image.shape), limit)
    files = _files(image, base64_values, limit)
    if not files or image.shape not in ((len(files),), (len(files), 1)):
        raise bad_request("bad_shape", f'Input "{IMAGE}" has the shape {list(image.shape)} and {len(files)} elements.')
    told: list[BinRecord | None] = [None] * len(files)
    if QUANTITY in by_name:
        quantities = _one_each(by_name[QUANTITY], _integers(by_name[QUANTITY]), len(files))
        told = [BinRecord(checked_quantity(quantity)) for quantity in quantities]
    elif RECORD in by_name:
        texts = _one_each(by_name[RECORD], _texts(by_name[RECORD], limit), len(files))
        told = [_record(text, f"image {place}") for place, text in enumerate(texts, start=1)]
    return [Photo(data, record) for data, record in zip(files, told, strict=True)]


def _one_each(tensor: Tensor, values: list[Any], photos: int) -> list[Any]:
    if len(values) != photos or tensor.shape not in ((photos,), (photos, 1)):
        raise bad_request(
            "bad_shape",
            f'Input "{tensor.name}" needs one element for each image; it has the shape {list(tensor.shape)!r:.60} and '
            f"{len(values)} elements.",
        )
    return values


def _texts(tensor: Tensor, limit: int) -> list[Any]:
    if tensor.datatype != "BYTES":
        raise bad_request("bad_datatype", f'Input "{RECORD}" must have the datatype BYTES, records as JSON text.')
    return (tensor.values or []) if tensor.raw is None else _split_bytes(tensor.raw, limit)


def _record(text: Any, what: str) -> BinRecord | None:
    """A record from its JSON text, a string or UTF-8. Raises Refusal."""
    if not isinstance(text, str | bytes) or len(text) > _MOST_RECORD:
        raise bad_request("bad_record", f"The {RECORD} of {what} is not a JSON text of at most {_MOST_RECORD:,} bytes.")
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_request("bad_record", f"The {RECORD} of {what} is not JSON ({error}).") from error
    return checked_record(value, what)


def _files(image: Tensor, base64_values: bool, limit: int) -> list[bytes]:
    if image.raw is not None:
        return _split_bytes(image.raw, limit)
    values = image.values or []
    if not base64_values:
        return values
    if not all(isinstance(value, str) for value in values):
        raise bad_request("bad_base64", f'The data of input "{IMAGE}" must be strings, image files in base64.')
    return [from_base64(value, f"Image {place}") for place, value in enumerate(values, start=1)]


def _split_bytes(raw: bytes, limit: int) -> list[bytes]:
    """Elements of a BYTES tensor: each is preceded by its length, four bytes, little endian."""
    elements, place = [], 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise bad_request("bad_binary", "The BYTES tensor ends within a length.")
        (length,) = struct.unpack_from("<I", raw, place)
        place += 4
        if place + length > len(raw):
            raise bad_request("bad_binary", "The BYTES tensor is shorter than its lengths say.")
        elements.append(raw[place : place + length])
        check_number(len(elements), limit)
        place += length
    return elements


def _integers(tensor: Tensor) -> list[Any]:
    if tensor.datatype not in _INTEGERS:
        raise bad_request("bad_datatype", f'Input "{QUANTITY}" must have the datatype INT32 or INT64.')
    if tensor.raw is None:
        return tensor.values or []
    dtype = _INTEGERS[tensor.datatype]
    if len(tensor.raw) % dtype.itemsize:
        raise bad_request("bad_binary", f'Input "{QUANTITY}" has a wrong number of bytes.')
    return np.frombuffer(tensor.raw, dtype).tolist()


def outputs_of(answers: list[Answer], wanted: tuple[WantedOutput, ...]) -> list[OutputTensor]:
    """The output tensors, or those that were asked for. Raises Refusal for a name that is none."""
    columns = {field: [getattr(answer, field.name) for answer in answers] for field in FIELDS}
    told = any(answer.has_record for answer in answers)
    outputs = {
        field.name: OutputTensor(field.name, field.datatype, _column(field, values))
        for field, values in columns.items()
        if (told if field.of_record else all(value is not None for value in values))
    }
    if len(wanted) != len({output.name for output in wanted}):
        raise bad_request("bad_outputs", "An output is asked for twice.")
    for output in wanted:
        if output.name not in outputs:
            raise bad_request("bad_outputs", f'There is no output "{output.name:.60}"; there are {", ".join(outputs)}.')
    return [outputs[output.name] for output in wanted] if wanted else list(outputs.values())


def _column(field: Field, values: list[Any]) -> NDArray[Any]:
    return np.array([field.no_value if value is None else value for value in values], field.dtype)


@dataclass(frozen=True)
class EncodedResponse:
    """Body of a V2 answer over HTTP; `json_length` is set when binary tensors follow the JSON."""

    body: bytes
    json_length: int | None


def encode(request: V2Request, answers: list[Answer], model: str, version: str) -> EncodedResponse:
    """The answers as V2 JSON, with binary tensors where the request asked for them. Raises Refusal."""
    wishes = {output.name: output.binary for output in request.outputs if output.binary is not None}
    entries, tail = [], []
    for output in outputs_of(answers, request.outputs):
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.values.shape),
        }
        if wishes.get(output.name, request.binary):
            raw = output.values.tobytes()
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            entry["data"] = output.values.ravel().tolist()
        entries.append(entry)
    head = orjson.dumps({"id": request.id, "model_name": model, "model_version": version, "outputs": entries})
    return EncodedResponse(b"".join([head, *tail]), len(head) if tail else None)
