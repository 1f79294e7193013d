"""Decoding: as a viewer would show it, the same for everybody, and within limits."""

import io
import struct
import tarfile
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.image_file import DEFAULT_LIMITS, ImageRejected, Limits, read_image_file
from components.core.pixels import decode_squashed

LEFT, RIGHT = (200, 40, 40), (40, 40, 200)


def two_halves(width: int = 120, height: int = 80) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), LEFT)
    image.paste(RIGHT, (width // 2, 0, width, height))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def assert_two_halves(pixels: np.ndarray, tolerance: int = 12) -> None:
    assert np.abs(pixels[16, 4].astype(int) - LEFT).max() <= tolerance
    assert np.abs(pixels[16, 28].astype(int) - RIGHT).max() <= tolerance


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"progressive": True, "quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [Image.new("RGB", (120, 80))]}),
    ],
)
def test_every_accepted_format_is_squashed_to_a_square(kind: str, options: dict) -> None:
    pixels = decode_squashed(saved(two_halves(), kind, **options), 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert_two_halves(pixels, 30)


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA", "LA", "L", "1", "I;16"])
def test_every_colour_mode_looks_as_in_a_viewer(mode: str) -> None:
    if mode == "CMYK":
        assert_two_halves(decode_squashed(saved(two_halves().convert("CMYK"), "JPEG", quality=95), 32), 40)
        return
    if mode == "P":
        assert_two_halves(decode_squashed(saved(two_halves().convert("P"), "PNG"), 32), 40)
        return
    if mode == "I;16":
        image = Image.fromarray(np.repeat(np.array([[0x3000, 0xC000]], np.uint16), 40, axis=1).repeat(40, axis=0))
        pixels = decode_squashed(saved(image, "PNG"), 32)
        assert (pixels[0, 0] == 0x30).all()
        assert (pixels[0, 31] == 0xC0).all()
        return
    pixels = decode_squashed(saved(two_halves().convert(mode), "PNG"), 32)
    expected = np.asarray(two_halves().convert(mode).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_transparency_shows_as_white(kind: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((10, 20, 30, 255), (0, 0, 32, 64))
    pixels = decode_squashed(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), 64)
    assert (pixels[10, 60] == 255).all()
    assert np.abs(pixels[10, 10].astype(int) - (10, 20, 30)).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    """The stored photo is turned so that its EXIF tag turns it back."""
    undo = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }[orientation]  # fmt: skip
    upright = two_halves()
    upright.paste((20, 160, 20), (0, 0, 120, 20))  # a green top, so that every turn differs
    stored = upright
    for step in undo:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode_squashed(saved(stored, kind, exif=exif, **options), 32).astype(int)
    expected = decode_squashed(saved(upright, kind, **options), 32).astype(int)
    assert np.abs(pixels - expected).max() < 25
    assert_two_halves(pixels, 16)


def test_the_first_frame_of_an_animation_counts() -> None:
    for kind in ("GIF", "PNG", "WEBP"):
        frames = [Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")]
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        red, _, blue = decode_squashed(data, 32)[5, 5]
        assert red > 200 > 50 > blue


def test_a_photo_of_the_wanted_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert np.array_equal(decode_squashed(saved(Image.fromarray(pixels), "PNG"), 48), pixels)


def test_large_jpegs_shrink_while_they_are_decoded_to_nearly_the_same_pixels() -> None:
    rows, columns = np.mgrid[0:1800, 0:2400]
    smooth = np.stack([rows / 8, columns / 10, (rows + columns) / 20], axis=-1).clip(0, 255).astype(np.uint8)
    data = saved(Image.fromarray(smooth), "JPEG", quality=95)
    slow = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode_squashed(data, 64).astype(int) - slow).mean() < 1.5


def test_the_size_that_is_told_is_the_stored_one_also_where_decoding_shrinks() -> None:
    small = read_image_file(saved(two_halves(), "PNG"))
    assert (small.format, small.width, small.height) == ("PNG", 120, 80)
    large = read_image_file(saved(Image.new("RGB", (2400, 1800)), "JPEG"))
    assert (large.format, large.width, large.height) == ("JPEG", 2400, 1800)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_header(width: int, height: int) -> bytes:
    body = b"\x00\x00\x00\x00" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not_an_image"),
        (b"<html><body>404</body></html>", "not_an_image"),
        (b"%PDF-1.4 and so on", "not_an_image"),
        (saved(two_halves(), "BMP"), "not_an_image"),
        (saved(two_halves(), "TIFF"), "not_an_image"),
        (saved(two_halves(), "JPEG")[:600], "corrupt"),
        (saved(two_halves(), "JPEG")[:100], "corrupt"),
        (saved(two_halves(), "PNG")[:-30], "corrupt"),
        (saved(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        (saved(Image.new("RGB", (500, 15)), "JPEG"), "too_small"),
        (png_header(20_000, 20_000), "too_many_pixels"),
        (png_header(2_000_000_000, 2_000_000_000), "too_many_pixels"),
        (png_header(6_400, 6_400), "too_many_pixels"),
        (webp_header(16_000, 16_000), "too_many_pixels"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "corrupt"),
    ],
)
def test_what_cannot_be_counted_is_rejected_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected) as rejected:
        decode_squashed(data, 32)
    assert rejected.value.reason == reason
    assert len(rejected.value.message) < 200


def test_a_bomb_is_refused_before_it_takes_memory_or_time() -> None:
    bomb = saved(Image.new("L", (20_000, 20_000)), "PNG")
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(ImageRejected):
        decode_squashed(bomb, 32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
    assert time.perf_counter() - started < 0.5


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = saved(two_halves(), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    end = data.index(b"\xff\xda", start + 2)
    many = data[:start] + data[start:end] * 200 + data[end:]
    with pytest.raises(ImageRejected) as rejected:
        decode_squashed(many, 32)
    assert rejected.value.reason == "too_many_scans"


def test_limits_can_be_narrowed() -> None:
    with pytest.raises(ImageRejected):
        decode_squashed(saved(two_halves(), "PNG"), 32, Limits(max_pixels=100))
    with pytest.raises(ImageRejected):
        decode_squashed(saved(two_halves(), "PNG"), 32, Limits(max_bytes=100))
    assert DEFAULT_LIMITS.max_pixels >= 20_000_000


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20),
    cut=st.integers(0, 10**6),
    noise=st.binary(max_size=40),
)
def test_damaged_files_are_decoded_or_rejected_and_nothing_else(
    kind: str, changes: list[tuple[int, int]], cut: int, noise: bytes
) -> None:
    data = bytearray(saved(two_halves(40, 30), kind))
    for place, value in changes:
        data[place % len(data)] = value
    if cut % 3 == 0:
        data = data[: cut % len(data)]
    data[cut % (len(data) + 1) : 0] = noise
    try:
        assert decode_squashed(bytes(data), 32).shape == (32, 32, 3)
    except ImageRejected as rejected:
        assert rejected.reason  # noqa: PT017


def test_real_photos_decode_the_same_every_time(sample: Path) -> None:
    with tarfile.open(sample / "originals.tar") as archive:
        members = [member for member in archive if member.isfile()][:20]
        assert len(members) == 20
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            assert np.array_equal(decode_squashed(data, 224), decode_squashed(data, 224))
            assert decode_squashed(data, 224).std() > 10
