"""The same pixels whatever surrounds a picture; data that is lost is noticed; floods cost nothing."""

import contextlib
import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.image_file import ImageRejected, read_image_file
from components.core.pixels import decode_squashed
from tests.core.test_pixels import saved

SIZE = 32


def blobs(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A picture with edges and slopes, different everywhere."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def as_before(data: bytes, size: int) -> np.ndarray:
    """The rule that the first models were trained by: Pillow decodes all of it and resizes."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * size, 2 * size))
    image.load()
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    else:
        flat = image.convert("RGB")
    return np.asarray(flat if flat.size == (size, size) else flat.resize((size, size), Image.Resampling.BILINEAR))


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(16, 700), st.integers(16, 700)),
    size=st.sampled_from([9, 32, 64, 224]),
    kind=st.sampled_from(
        [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")]
    ),
    quality=st.integers(5, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
@example(sides=(1600, 1200), size=32, kind=("JPEG", "RGB"), quality=90, subsampling=2, progressive=True)
@example(sides=(1700, 1300), size=64, kind=("PNG", "RGBA"), quality=90, subsampling=0, progressive=False)
def test_ordinary_photos_have_the_pixels_that_models_were_trained_on(
    sides: tuple[int, int], size: int, kind: tuple[str, str], quality: int, subsampling: int, progressive: bool
) -> None:
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive} if kind[0] == "JPEG" else {}
    data = saved(blobs(sides[0], sides[1], seed=quality, mode=kind[1]), kind[0], **options)
    assert np.array_equal(decode_squashed(data, size), as_before(data, size))


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content


JPEG = saved(blobs(200, 150), "JPEG", quality=90)
PROGRESSIVE = saved(blobs(200, 150), "JPEG", quality=90, progressive=True)
TIFF = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>'


def with_segments(*segments: bytes, jpeg: bytes = JPEG) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize(
    "change",
    [
        lambda jpeg: jpeg + b"\0\0\0\x18ftypmp42" + b"\xff\xda\xff\xd8\xff\xe1" * 500,
        lambda jpeg: jpeg + jpeg,
        lambda jpeg: with_segments(segment(0xEB, b"JP\0\1" + b"\xff\xda" * 400), jpeg=jpeg),
        lambda jpeg: jpeg.replace(jpeg[2:20], segment(0xE0, b"JFIF\0"), 1),
        lambda jpeg: with_segments(segment(0xEE, b"Adobe\0"), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE2, b"ICC_PROFILE\0"), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE2, b"MPF\0II*\0" + bytes(20)), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xED, b"Photoshop 3.0\x008BIM"), segment(0xFE, b"\xff\xd9"), jpeg=jpeg),
        lambda jpeg: with_segments(b"\xff" * 3000, jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE1, XMP), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE1, b"Exif\0\0Exif\0\0" + TIFF), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE1, b"Exif\0\0" + TIFF.replace(b"\x03\0\1", b"\x02\0\1")), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE1, b"Exif\0\0" + TIFF.replace(b"\x03\0\1", b"\x03\0\2")), jpeg=jpeg),
        lambda jpeg: with_segments(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"), jpeg=jpeg),
        lambda jpeg: jpeg[:-2],
        lambda jpeg: jpeg[:-1],
        lambda jpeg: jpeg[:-2] + bytes(5000),
        lambda jpeg: jpeg[:-2] + bytes(5000) + jpeg[-2:],
    ],
    ids=["film behind", "picture behind", "marker in a segment", "short JFIF", "short Adobe", "ICC without number",
         "MPF", "Photoshop and end in a comment", "fill bytes", "XMP orientation", "EXIF twice begun", "EXIF as text",
         "EXIF of two", "EXIF to nowhere", "no end", "half an end", "zeros for an end", "zeros before the end"],
)  # fmt: skip
def test_a_jpeg_is_the_same_photo_with_whatever_lies_beside_it(jpeg: bytes, change: Callable[[bytes], bytes]) -> None:
    assert np.array_equal(decode_squashed(change(jpeg), SIZE), decode_squashed(jpeg, SIZE))


def test_the_orientation_is_read_where_viewers_read_it() -> None:
    turned = np.rot90(decode_squashed(JPEG, SIZE), -1)
    exif = segment(0xE1, b"Exif\0\0" + TIFF)
    assert np.array_equal(decode_squashed(with_segments(exif), SIZE), turned)
    assert np.array_equal(decode_squashed(with_segments(segment(0xE1, XMP), exif), SIZE), turned)


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize("kept", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("filler", [b"", b"\0", b"\xff", b"\x55"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "ended"])
def test_a_jpeg_that_lost_data_is_refused(jpeg: bytes, kept: float, filler: bytes, end: bytes) -> None:
    """Half a photo would be counted, and for sure: the decoder fills the rest with grey and only warns."""
    length = int(len(jpeg) * kept)
    with pytest.raises(ImageRejected) as rejected:
        decode_squashed(jpeg[:length] + filler * (len(jpeg) - 2 - length) + end, SIZE)
    assert rejected.value.reason == "corrupt"


def test_the_decoders_own_words_say_what_a_photo_lost() -> None:
    with pytest.raises(ImageRejected, match="premature end of data segment"):
        decode_squashed(JPEG[: len(JPEG) // 2] + b"\xff\xd9", SIZE)


def chunk(kind: bytes, content: bytes = b"", checksum: int = 0) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ checksum)


PNG = saved(blobs(60, 40), "PNG")


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"tEXt", b"Comment\0a text", checksum=1),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_500_000))),
        chunk(b"iCCP", b"profile\0\7"),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0") + chunk(b"pHYs") + chunk(b"sRGB"),
        chunk(b"tIME", b"\0" * 7, checksum=5) * 50,
        chunk(b"eXIf", TIFF, checksum=1),
        chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0"),
    ],
)
def test_a_png_is_the_same_photo_with_whatever_lies_beside_it(added: bytes) -> None:
    changed = PNG[:33] + added + PNG[33:]
    assert np.array_equal(decode_squashed(changed, SIZE), decode_squashed(PNG, SIZE))
    assert np.array_equal(decode_squashed(PNG[:-12] + added + b"film", SIZE), decode_squashed(PNG, SIZE))


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_other_formats_that_lost_data_are_refused(kind: str, share: float) -> None:
    data = saved(blobs(60, 40), kind)
    with pytest.raises(ImageRejected):
        decode_squashed(data[: int(len(data) * share)], SIZE)


@pytest.mark.parametrize("sides", [(8064, 6048), (12000, 9000), (16320, 12240)])
def test_photos_of_todays_telephones_are_scaled_while_they_are_decoded(sides: tuple[int, int]) -> None:
    """48, 108 and 200 megapixels. The picture is grey, so that the test does not take the time of encoding it."""
    grey = Image.new("L", sides, 120)
    data = saved(grey, "JPEG", quality=30)
    assert np.abs(decode_squashed(data, SIZE).astype(int) - 120).max() < 5
    assert read_image_file(data).memory == 0


FLOOD = 4_000_000
JPEG_FLOODS = {
    "EXIF": segment(0xE1, b"Exif\0\0") * (FLOOD // 10),
    "comments": segment(0xFE) * (FLOOD // 4),
    "tables": segment(0xC4) * (FLOOD // 4),
    "scans": JPEG[JPEG.index(b"\xff\xda") : -2][:12] * (FLOOD // 12),
    "restart markers": b"\xff\xd0" * (FLOOD // 2),
    "fill": b"\xff" * FLOOD,
    "stuffing": b"\xff\0" * (FLOOD // 2),
}
OTHER_FLOODS = {
    "PNG texts": PNG[:33] + chunk(b"tEXt") * (FLOOD // 12) + PNG[33:],
    "PNG pixels": PNG[:33] + chunk(b"IDAT") * (FLOOD // 12) + PNG[33:],
    "GIF comments": b"GIF89a\x20\0\x20\0\0\0\0" + b"!\xfe\1a\0" * (FLOOD // 5),
    "GIF blocks": b"GIF89a\x20\0\x20\0\0\0\0!\xfe" + b"\1a" * (FLOOD // 2),
    "WebP chunks": b"RIFF" + struct.pack("<I", FLOOD) + b"WEBP" + b"abcd\0\0\0\0" * (FLOOD // 8),
}


@pytest.mark.parametrize("data", [*(with_segments(flood) for flood in JPEG_FLOODS.values()), *OTHER_FLOODS.values()],
                         ids=[*JPEG_FLOODS, *OTHER_FLOODS])  # fmt: skip
def test_floods_of_small_parts_cost_nothing(data: bytes) -> None:
    """Pillow takes ten seconds of processor time for 4 MB of small EXIF segments, and holds the interpreter."""
    began = time.process_time()
    with contextlib.suppress(ImageRejected):
        decode_squashed(data, SIZE)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("kind", "sides", "options"),
    [
        ("WEBP", (6000, 5000), {"lossless": True, "quality": 0, "method": 0}),
        ("JPEG", (16000, 12000), {"progressive": True}),
    ],
)
def test_what_would_take_too_much_memory_is_refused_before_it_is_decoded(
    kind: str, sides: tuple[int, int], options: dict
) -> None:
    data = bytearray(saved(Image.new("RGB", (64, 64)), kind, **options))
    if kind == "JPEG":
        place = data.index(b"\xff\xc2") + 5
        data[place : place + 4] = struct.pack(">HH", sides[1], sides[0])
    else:
        packed = int.from_bytes(data[21:25], "little") & ~0xFFFFFFF | sides[0] - 1 | (sides[1] - 1) << 14
        data[21:25] = packed.to_bytes(4, "little")
    with pytest.raises(ImageRejected) as rejected:
        decode_squashed(bytes(data), SIZE)
    assert rejected.value.reason in ("too_much_memory", "too_many_scans")
