"""Requests that are meant to hurt, drawn from a seed: kinds of fault, not files."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from components.core.layout import MODEL_NAME

_MEGA = 1024 * 1024
V1_PATH, V2_PATH = f"/v1/models/{MODEL_NAME}:predict", f"/v2/models/{MODEL_NAME}/infer"
_REFUSED, _ANSWERED = range(400, 500), range(200, 201)


@dataclass(frozen=True)
class Hostile:
    """One request over HTTP: its headers, body and path, and whether the client waits for the answer.

    `answers` are the statuses that are right where only these are; None where any refusal or answer is.
    """

    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "image/jpeg"),)
    waits: bool = True
    path: str = V1_PATH
    answers: range | None = None


def draw(number: int, seed: int) -> Hostile:
    """Request `number` of the series that `seed` names."""
    generator = random.Random(f"{seed}:{number}")  # noqa: S311 - a load, no secret
    kind = generator.choice(sorted(_KINDS))
    return _KINDS[kind](generator)


def _small_webp(generator: random.Random) -> Hostile:
    one = _flat("WEBP", generator.choice([(6320, 6320), (4000, 4000), (5000, 5000)]), "RGBA")
    return _form("webp", [one] * generator.randint(1, 8), generator)


def _flat_png(generator: random.Random) -> Hostile:
    mode = generator.choice(["RGBA", "L", "P"])
    return Hostile("png", _flat("PNG", (6300, 6300), mode), waits=generator.random() < 0.7)


def _progressive(generator: random.Random) -> Hostile:
    return Hostile("progressive", _flat("JPEG", (7000, 5500), "RGB", progressive=True), waits=generator.random() < 0.7)


def _segments(generator: random.Random) -> Hostile:
    content = generator.choice([b"Exif\0\0", b"", b"ICC_PROFILE\0", b"Photoshop 3.0\0"])
    part = generator.choice([b"\xff\xe1", b"\xff\xfe", b"\xff\xc4"]) + struct.pack(">H", 2 + len(content)) + content
    return Hostile("segments", _inside_jpeg(part, generator.randint(1, 8) * _MEGA))


def _fill(generator: random.Random) -> Hostile:
    part = generator.choice([b"\xff", b"\0", b"\xff\0", b"\xff\xd0", b"\xff\xda\0\2"])
    return Hostile("fill", _inside_jpeg(part, generator.randint(1, 16) * _MEGA))


def _chunks(generator: random.Random) -> Hostile:
    kind = generator.choice([b"tEXt", b"IDAT", b"zTXt"])
    part = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    png = _flat("PNG", (64, 64), "RGB")
    return Hostile("chunks", png[:33] + part * (generator.randint(1, 8) * _MEGA // len(part)) + png[33:])


def _objects(generator: random.Random) -> Hostile:
    unit = generator.choice([b'{"":0},', b"[],", b"{},", b'"",', b'{"b64":""},', b"[" * 900 + b"]" * 900 + b","])
    units = unit * (generator.randint(1, 30) * _MEGA // len(unit))
    return Hostile("objects", b'{"instances":[' + units[:-1] + b"]}", (("Content-Type", "application/json"),))


def _inflated(generator: random.Random) -> Hostile:
    body = _deflated(generator.choice([33, 64, 256]))
    return Hostile("inflated", body, (("Content-Type", "image/jpeg"), ("Content-Encoding", "deflate")))


def _gone(generator: random.Random) -> Hostile:
    one = generator.choice([_flat("WEBP", (4000, 4000), "RGBA"), _flat("PNG", (6300, 6300), "RGBA")])
    form = _form("gone", [one] * 32, generator)
    return Hostile("gone", form.body, form.headers, waits=False)


def _parts(generator: random.Random) -> Hostile:
    kind = generator.choice(["headers", "boundaries", "parts"])
    unit = {
        "headers": b"a: b\r\n",
        "boundaries": b"\r\n--",
        "parts": b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n',
    }[kind]
    head = b'--X\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n'
    return Hostile(
        "form parts", head + unit * (2 * _MEGA // len(unit)), (("Content-Type", "multipart/form-data; boundary=X"),)
    )


def _gif(generator: random.Random) -> Hostile:
    """As many pixels as one likes in a few bytes, or extensions without end before the picture."""
    gif = _flat("GIF", generator.choice([(64, 64), (6000, 6000)]), "L")
    extension = b"!\xfe" + generator.choice([b"", b"\1x", b"\1x" * 1000]) + b"\0"
    before = 13 + 3 * 2 ** ((gif[10] & 7) + 1)  # header, screen and its colours
    flood = extension * (generator.choice([0, 1, 4]) * _MEGA // len(extension))
    return Hostile("gif", gif[:before] + flood + gif[before:], (("Content-Type", "image/gif"),))


def _lost_data(generator: random.Random) -> Hostile:
    """A photo whose transfer broke off: half a bin is not a bin with fewer items."""
    photo = honest_photo(generator.randrange(20))
    return Hostile("lost data", photo[: int(len(photo) * generator.uniform(0.2, 0.9))], answers=_REFUSED)


def _upgrade(generator: random.Random) -> Hostile:
    """Java's usual client offers HTTP/2 beside its request, which is to be answered as if it had not."""
    offer = (
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA"),
    )
    photo = honest_photo(generator.randrange(20))
    return Hostile("h2c", photo, (("Content-Type", "image/jpeg"), *offer), answers=_ANSWERED)


def _v2(generator: random.Random) -> Hostile:
    """Tensors that are wide, deep, or not what their shape says."""
    unit = generator.choice(["0,", '"AAAA",', "[],", "[" * 90 + "]" * 90 + ","])
    data = (unit * (generator.randint(1, 8) * _MEGA // len(unit)))[:-1]
    tensor = f'{{"name":"image","datatype":"BYTES","shape":[{generator.randint(1, 3)}],"data":[{data}]}}'
    headers = (("Content-Type", "application/json"),)
    return Hostile("v2", f'{{"inputs":[{tensor}]}}'.encode(), headers, path=V2_PATH, answers=_REFUSED)


_KINDS: dict[str, Callable[[random.Random], Hostile]] = {
    "webp": _small_webp,
    "png": _flat_png,
    "progressive": _progressive,
    "segments": _segments,
    "fill": _fill,
    "chunks": _chunks,
    "objects": _objects,
    "inflated": _inflated,
    "gone": _gone,
    "form parts": _parts,
    "gif": _gif,
    "lost data": _lost_data,
    "h2c": _upgrade,
    "v2": _v2,
}


def honest_photo(number: int) -> bytes:
    """A photo like those that the endpoint is for: 500 pixels wide, with texture."""
    small = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(small).resize((500, 400), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()


@cache
def _flat(kind: str, sides: tuple[int, int], mode: str, *, progressive: bool = False) -> bytes:
    data = io.BytesIO()
    options: dict[str, object] = {"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {}
    Image.new(mode, sides).save(data, kind, progressive=progressive, **options)
    return data.getvalue()


@cache
def _deflated(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * _MEGA))


def _inside_jpeg(part: bytes, length: int) -> bytes:
    jpeg = honest_photo(0)
    return jpeg[:2] + part * (length // len(part)) + jpeg[2:]


def _form(kind: str, files: list[bytes], generator: random.Random) -> Hostile:
    head = b'--X\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    body = b"".join(head + file + b"\r\n" for file in files) + b"--X--\r\n"
    content_type = ("Content-Type", "multipart/form-data; boundary=X")
    return Hostile(kind, body, (content_type,), waits=generator.random() < 0.7)
