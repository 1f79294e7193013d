"""The V1 protocol: an image file as the body, a form with files, or JSON with base64; answers as JSON."""

import base64
import binascii
import codecs
import re
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import FormData, UploadFile

from components.core.contents import BadRecordError, BinRecord
from components.serve.answers import Answer, Photo
from components.serve.fields import FIELDS
from components.serve.refusal import Refusal, bad_request

# What curl sends unless told otherwise; the bytes decide.
RAW_TYPES = ("application/octet-stream", "application/x-www-form-urlencoded", "")
JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"
QUANTITY = "recorded_quantity"
RECORD = "record"
VERSION = "model_version"
ACCEPTED = (
    'an image file as the body (Content-Type image/jpeg, image/png or image/webp), JSON {"instances": [{"b64": "…"}]}, '
    "or a multipart form with image files"
)
_LARGEST_QUANTITY = 10**9
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}(\.0{1,9})?", re.ASCII)
_BASE64_PIECE = 1024 * 1024  # characters decoded in one go, in which no other thread runs; a multiple of 4
_JSON_PARTS = (b"{", b"[", b",", b":")
_COUNTED_BYTES = 256 * 1024


def media_type(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def is_raw(kind: str) -> bool:
    """Whether a body of this media type is the bytes of one image file."""
    return kind in RAW_TYPES or kind.startswith("image/")


def quantity_from_text(text: str | None) -> int | None:
    """The quantity on record from a query parameter or a form field. Raises Refusal."""
    if text is None:
        return None
    if not _WHOLE_NUMBER.fullmatch(text):
        raise _bad_quantity()
    return checked_quantity(int(text.partition(".")[0]))


def checked_quantity(value: Any) -> int:
    """A quantity on record: a whole number from 0, also as 3.0 (JSON has one kind of number). Raises Refusal."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_QUANTITY:
        raise _bad_quantity()
    return value


def record_of(quantity: int | None) -> BinRecord | None:
    """A record that tells a quantity alone; None where there is none."""
    return None if quantity is None else BinRecord(quantity)


def _bad_quantity() -> Refusal:
    return bad_request("bad_quantity", f"{QUANTITY} must be a whole number from 0 to {_LARGEST_QUANTITY}.")


def is_json(body: bytes) -> bool:
    """Whether the body of a client that did not say what it sends is JSON: no image begins like it."""
    return body[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def parsed_json(body: bytes, most_parts: int) -> Any:
    """Parse JSON whose size in memory is known beforehand: objects take many times their text. Raises Refusal."""
    parts = 0
    for start in range(0, len(body), _COUNTED_BYTES):
        window = body[start : start + _COUNTED_BYTES]
        parts += sum(window.count(mark) for mark in _JSON_PARTS)
        if parts > most_parts:
            raise Refusal(
                413,
                "too_many_parts",
                f"The JSON has more than {most_parts:,} values; send photos as strings in base64.",
            )
    try:
        return orjson.loads(body.removeprefix(codecs.BOM_UTF8))  # a mark that RFC 8259, 8.1 lets readers ignore
    except orjson.JSONDecodeError as error:
        raise bad_request("bad_json", f"The body is not JSON ({error}); send {ACCEPTED}.") from error


def photos_from_json(body: bytes, limit: int, most_parts: int) -> list[Photo]:
    """Photos of `{"instances": [{"b64": …, "recorded_quantity" or "record": …}, …]}`. Raises Refusal."""
    content = parsed_json(body, most_parts)
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not instances:
        raise bad_request(
            "missing_field", f'The JSON needs "instances", a list with at least one photo; send {ACCEPTED}.'
        )
    check_number(len(instances), limit)
    return [_photo_from_instance(instance, place) for place, instance in enumerate(instances, start=1)]


def _photo_from_instance(instance: Any, place: int) -> Photo:
    if not isinstance(instance, dict) or not isinstance(instance.get("b64"), str):
        raise bad_request("missing_field", f'Instance {place} needs "b64", the image file in base64 as a string.')
    if unknown := instance.keys() - {"b64", QUANTITY, RECORD}:
        raise bad_request(
            "unknown_field",
            f"Instance {place} has the unknown field {min(unknown)!r:.60}; it takes b64, {QUANTITY} and {RECORD}.",
        )
    quantity, record = instance.get(QUANTITY), instance.get(RECORD)
    if quantity is not None and record is not None:
        raise bad_request("bad_record", f"Instance {place} has {QUANTITY} and {RECORD}; give one of them.")
    told = None
    if quantity is not None:
        told = BinRecord(checked_quantity(quantity))
    elif record is not None:
        told = checked_record(record, f"instance {place}")
    return Photo(from_base64(instance["b64"], f"Instance {place}"), told)


def checked_record(value: Any, what: str) -> BinRecord:
    """What is on record of a photo that `what` names: a quantity, products, or both. Raises Refusal."""
    try:
        return BinRecord.parse(value)
    except BadRecordError as error:
        raise bad_request("bad_record", f"The {RECORD} of {what} cannot be used: {error}.") from error


def from_base64(text: str, what: str) -> bytes:
    """Decode base64. Raises Refusal."""
    try:
        pieces = [text[start : start + _BASE64_PIECE] for start in range(0, len(text), _BASE64_PIECE)]
        if any("=" in piece for piece in pieces[:-1]):
            raise ValueError("padding before the end")
        return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])
    except (binascii.Error, ValueError) as error:
        raise bad_request("bad_base64", f"{what} is not valid base64 ({error}).") from error


def check_number(number: int, limit: int) -> None:
    """Refuse more photos than one request may hold."""
    if number > limit:
        raise Refusal(
            413, "too_many_photos", f"The request holds {number} photos; at most {limit} are accepted at once."
        )


def check_names(names: list[str], what: str) -> None:
    """Refuse parameters or fields besides the quantity: a misspelt one would be ignored. Raises Refusal."""
    for name in names:
        if name != QUANTITY:
            raise bad_request(f"unknown_{what}", f"There is no {what} {name!r:.60}; {QUANTITY} is the only one.")


@dataclass(frozen=True)
class FormPhotos:
    """A multipart form that was read completely: its files, and the quantities on record in the order of the files."""

    files: list[UploadFile]
    quantities: list[int]

    @classmethod
    def of(cls, form: FormData, limit: int) -> "FormPhotos":
        """Check a form's fields. Raises Refusal."""
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise bad_request("missing_field", "The form holds no file; add the photos as file fields.")
        check_number(len(files), limit)
        fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
        check_names([key for key, _ in fields], "field")
        texts = [value for _, value in fields]
        if len(texts) not in (0, 1, len(files)):
            raise bad_request("bad_quantity", f"Give {QUANTITY} once for all files, or once for each of them.")
        return cls(files, [quantity for text in texts if (quantity := quantity_from_text(text)) is not None])

    async def photos(self) -> list[Photo]:
        """The photos, in order."""
        quantities: list[int | None] = [*self.quantities] or [None]
        if len(quantities) == 1:
            quantities *= len(self.files)
        return [
            Photo(await file.read(), record_of(quantity)) for file, quantity in zip(self.files, quantities, strict=True)
        ]


def encode(answers: list[Answer], version: str) -> bytes:
    """The answers as V1 JSON."""
    return orjson.dumps({"predictions": [_answer(answer, version) for answer in answers]})


def _answer(answer: Answer, version: str) -> dict[str, Any]:
    values = {field.name: getattr(answer, field.name) for field in FIELDS}
    kept = {field.name: values[field.name] for field in FIELDS if answer.has_record or not field.of_record}
    return {**kept, VERSION: version}
