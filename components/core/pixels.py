"""Decoding and resizing: the only module that turns the bytes of a photo into pixels.

Training and serving share it, so both see the same pixels for the same bytes. The rule: decode as a viewer would show
the first frame, squash to a square without keeping the aspect ratio (a crop could cut items away), on white where the
photo is transparent. A photo that already has the wanted size is not resampled. A photo that lost data is no photo.
"""

import io
import re
from importlib.metadata import version

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin, features

from components.core.image_file import (
    ACCEPTED_FORMATS,
    DEFAULT_LIMITS,
    ImageFile,
    ImageRejected,
    Limits,
    read_image_file,
)
from components.core.reasons import Reason

__all__ = [
    "ACCEPTED_FORMATS",
    "DEFAULT_LIMITS",
    "ImageFile",
    "ImageRejected",
    "Limits",
    "decode_squashed",
    "decoder_versions",
    "read_image_file",
    "squash",
]
# Named here so that Pillow knows them without loading its fifty plug-ins.
_PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin, GifImagePlugin)
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_PIXELS = 1_000_000  # converted at once


def decode_squashed(data: bytes, size: int, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a photo and squash it to size×size: uint8, size×size×3, RGB. Raises ImageRejected."""
    return squash(read_image_file(data, limits), size)


def squash(file: ImageFile, size: int) -> NDArray[np.uint8]:
    """Decode a picture and squash it to size×size: uint8, size×size×3, RGB. Raises ImageRejected."""
    image = _decode_jpeg(file, size) if file.format == "JPEG" else _decode(file)
    squashed = _in_colour(image)
    if squashed.size != (size, size):
        squashed = squashed.resize((size, size), Image.Resampling.BILINEAR)
    # Rotating after squashing gives the same picture for less work.
    if file.orientation in _TRANSPOSITIONS:
        squashed = squashed.transpose(_TRANSPOSITIONS[file.orientation])
    return np.asarray(squashed)


def thumbnail(file: ImageFile, longest: int) -> Image.Image:
    """A photo for people, upright and in its own shape, its longer side `longest` pixels. Raises ImageRejected."""
    turned = file.orientation >= 5
    width, height = (file.height, file.width) if turned else (file.width, file.height)
    scale = longest / max(width, height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return Image.fromarray(squash(file, longest)).resize(size)


def decoder_versions() -> dict[str, str]:
    """Versions of what turns bytes into pixels here: with others the same photo may have other pixels."""
    codecs = ("jpg", "libjpeg_turbo", "zlib", "webp")
    ours = {"pillow": PIL.__version__, "simplejpeg": version("simplejpeg")}
    return ours | {name: str(features.version(name)) for name in codecs}


def _decode_jpeg(file: ImageFile, size: int) -> Image.Image:
    """Decode a JPEG, scaled by libjpeg to no less than twice what is needed. Raises ImageRejected where it warns."""
    fit = min(file.width, file.height) // (2 * size)
    scale = next(factor for factor in (8, 4, 2, 1) if fit >= factor or factor == 1)
    least = {"min_width": -(-file.width // scale), "min_height": -(-file.height // scale)}
    try:
        colours = simplejpeg.decode_jpeg_header(file.picture)[2]
    except ValueError:
        return _decode(file, size)  # an arithmetic coder, an unusual subsampling
    space = "CMYK" if colours in ("CMYK", "YCCK") else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(file.picture, space, **least)
    except ValueError as error:
        warning = str(error).strip(" .")
        if not _is_harmless(warning, len(file.picture)):
            raise _lost(warning) from error
        pixels = simplejpeg.decode_jpeg(file.picture, space, strict=False, **least)
    if space == "CMYK":  # what its numbers mean Pillow knows
        return _decode(file, size)
    return Image.fromarray(pixels)


def _is_harmless(warning: str, length: int) -> bool:
    """Whether libjpeg (jerror.h) says this of a whole picture too; a lot behind its end stands for what is lost."""
    extraneous = re.search(r"(\d+) extraneous bytes", warning)
    if extraneous:
        return int(extraneous[1]) <= 64 + length // 100
    return re.search("color transform|JFIF revision|progression sequence", warning) is not None


def _lost(warning: str) -> ImageRejected:
    return ImageRejected(Reason.CORRUPT, f"The JPEG image is damaged or incomplete ({warning:.100}).")


def _decode(file: ImageFile, size: int | None = None) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(file.picture), formats=ACCEPTED_FORMATS)
        if size is not None:
            image.draft("RGB", (2 * size, 2 * size))
        image.load()
    except Exception as error:  # decoders raise whatever hostile bytes make them raise
        raise ImageRejected(Reason.CORRUPT, f"The {file.format} image is damaged or incomplete.") from error
    return image


def _in_colour(image: Image.Image) -> Image.Image:
    """As RGB on white; a large picture strip by strip, so that it is in memory twice and not five times."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return _as_rgb(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        whole.paste(_as_rgb(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return whole


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greyscale: keep the high byte
        high = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
