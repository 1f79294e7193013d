"""Decoding and resizing: the only module that turns the bytes of a photo into pixels.

Training and serving share it, so both see the same pixels for the same bytes. The rule: decode as a viewer would show
the first frame, squash to a square without keeping the aspect ratio (a crop could cut items away), on white where the
photo is transparent. A photo that already has the wanted size is not resampled.
"""

import io
from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import (
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    features,
)

from components.core.reasons import Reason

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# Named here so that Pillow knows them without loading its fifty plug-ins.
_PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin, GifImagePlugin)
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """What a photo may be. Everything is checked before pixels are decoded."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000
    min_side: int = 16
    max_side: int = 16_384
    max_scans: int = 100  # of a progressive JPEG; thousands of empty ones cost minutes of decoding


DEFAULT_LIMITS = Limits()


class ImageRejected(Exception):
    """The bytes are no photo that can be counted. `message` is one sentence."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class ImageInfo:
    """What the header says: format, and the stored size in pixels (before any EXIF rotation)."""

    format: str
    width: int
    height: int


def decode_squashed(data: bytes, size: int, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a photo and squash it to size×size: uint8, size×size×3, RGB. Raises ImageRejected."""
    return decode_with_info(data, size, limits)[0]


def decode_with_info(data: bytes, size: int, limits: Limits = DEFAULT_LIMITS) -> tuple[NDArray[np.uint8], ImageInfo]:
    """The same, and what the photo's header says."""
    image = _open(data, limits)
    info = ImageInfo(_format_of(image), *image.size)
    # For large JPEGs libjpeg scales while it decodes, to no less than twice what is needed.
    image.draft("RGB", (2 * size, 2 * size))
    try:
        image.load()
    except Exception as error:  # decoders raise whatever hostile bytes make them raise
        raise ImageRejected(Reason.CORRUPT, f"The {_format_of(image)} image is damaged or incomplete.") from error
    _check_size(image.size, limits)  # the first frame of a GIF may be larger than its header says
    squashed = _as_rgb(image)
    if squashed.size != (size, size):
        squashed = squashed.resize((size, size), Image.Resampling.BILINEAR)
    orientation = _orientation(image)
    # Rotating after squashing gives the same picture for less work.
    if orientation in _TRANSPOSITIONS:
        squashed = squashed.transpose(_TRANSPOSITIONS[orientation])
    return np.asarray(squashed), info


def decoder_versions() -> dict[str, str]:
    """Versions of what turns bytes into pixels here: with others the same photo may have other pixels."""
    codecs = ("jpg", "libjpeg_turbo", "zlib", "webp")
    return {"pillow": PIL.__version__} | {name: str(features.version(name)) for name in codecs}


def _open(data: bytes, limits: Limits) -> Image.Image:
    if not data:
        raise ImageRejected(Reason.EMPTY, "The image is empty (0 bytes).")
    if len(data) > limits.max_bytes:
        raise ImageRejected(
            Reason.TOO_MANY_BYTES, f"The image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted."
        )
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_size(_webp_size(data), limits)  # Pillow allocates a WebP's whole canvas when it opens it
    try:
        image = Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
    except Image.DecompressionBombError as error:
        accepted = f"at most {limits.max_pixels:,} are accepted"
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"The image has far too many pixels; {accepted}.") from error
    except UnidentifiedImageError as error:
        raise ImageRejected(
            Reason.NOT_AN_IMAGE,
            f"These bytes are no image that can be read; send one of {', '.join(ACCEPTED_FORMATS)}.",
        ) from error
    except Exception as error:  # see decode_squashed
        raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.") from error
    _check_size(image.size, limits)
    if _format_of(image) == "JPEG" and data.count(b"\xff\xda") > limits.max_scans:
        raise ImageRejected(Reason.TOO_MANY_SCANS, f"The JPEG has more than {limits.max_scans} scans.")
    return image


def _format_of(image: Image.Image) -> str:
    # MPO is what some cameras write, a JPEG followed by another one; Pillow opens it as JPEG and renames it.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if min(size) < limits.min_side:
        raise ImageRejected(
            Reason.TOO_SMALL, f"The image has {width}×{height} pixels; each side needs at least {limits.min_side}."
        )
    if max(size) > limits.max_side or width * height > limits.max_pixels:
        raise ImageRejected(
            Reason.TOO_MANY_PIXELS,
            f"The image has {width}×{height} pixels; at most {limits.max_pixels:,} and {limits.max_side:,} a side "
            "are accepted.",
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF: viewers show the photo as it is stored
        return 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit greyscale: keep the high byte
        high = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
