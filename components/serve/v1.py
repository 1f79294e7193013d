"""The V1 protocol: an image file as the body, a form with files, or JSON with base64; answers as JSON."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import FormData, UploadFile

from components.serve.answers import Answer, Photo
from components.serve.refusal import Refusal, bad_request

# What curl sends unless told otherwise; the bytes decide.
RAW_TYPES = ("application/octet-stream", "application/x-www-form-urlencoded", "")
JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"
QUANTITY = "recorded_quantity"
ACCEPTED = (
    'an image file as the body (Content-Type image/jpeg, image/png or image/webp), JSON {"instances": [{"b64": "…"}]}, '
    "or a multipart form with image files"
)
_LARGEST_QUANTITY = 10**9


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
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_QUANTITY))):
        raise _bad_quantity()
    return checked_quantity(int(text))


def checked_quantity(value: Any) -> int:
    """A quantity on record: a whole number from 0. Raises Refusal for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_QUANTITY:
        raise _bad_quantity()
    return value


def _bad_quantity() -> Refusal:
    return bad_request("bad_quantity", f"{QUANTITY} must be a whole number from 0 to {_LARGEST_QUANTITY}.")


def photos_from_json(body: bytes, limit: int) -> list[Photo]:
    """Photos of `{"instances": [{"b64": …, "recorded_quantity": …}, …]}`. Raises Refusal."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request("bad_json", f"The body is not JSON ({error}); send {ACCEPTED}.") from error
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
    if unknown := instance.keys() - {"b64", QUANTITY}:
        raise bad_request(
            "unknown_field",
            f"Instance {place} has the unknown field {min(unknown)!r:.60}; it takes b64 and {QUANTITY}.",
        )
    quantity = None
    if instance.get(QUANTITY) is not None:
        quantity = checked_quantity(instance[QUANTITY])
    return Photo(from_base64(instance["b64"], f"Instance {place}"), quantity)


def from_base64(text: str, what: str) -> bytes:
    """Decode base64. Raises Refusal."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request("bad_base64", f"{what} is not valid base64 ({error}).") from error


def check_number(number: int, limit: int) -> None:
    """Refuse more photos than one request may hold."""
    if number > limit:
        raise Refusal(
            413, "too_many_photos", f"The request holds {number} photos; at most {limit} are accepted at once."
        )


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
        texts = [value for key, value in form.multi_items() if key == QUANTITY and isinstance(value, str)]
        if len(texts) not in (0, 1, len(files)):
            raise bad_request("bad_quantity", f"Give {QUANTITY} once for all files, or once for each of them.")
        return cls(files, [quantity for text in texts if (quantity := quantity_from_text(text)) is not None])

    async def photos(self) -> list[Photo]:
        """The photos, in order."""
        quantities: list[int | None] = [*self.quantities] or [None]
        if len(quantities) == 1:
            quantities *= len(self.files)
        return [Photo(await file.read(), quantity) for file, quantity in zip(self.files, quantities, strict=True)]


def encode(answers: list[Answer], version: str) -> bytes:
    """The answers as V1 JSON."""
    return orjson.dumps({"predictions": [_fields(answer, version) for answer in answers]})


def _fields(answer: Answer, version: str) -> dict[str, Any]:
    fields = {
        "count": answer.count,
        "scores": answer.scores,
        "expected_count": answer.expected_count,
        "out_of_range": answer.out_of_range,
        "model_version": version,
    }
    if answer.mismatch_probability is not None:
        fields["mismatch_probability"] = answer.mismatch_probability
    return fields
