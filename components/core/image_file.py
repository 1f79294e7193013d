"""What an image file is, read without decoding it: format, size, orientation, and the parts that make the picture.

Decoders read metadata that nobody needs here, some of it in quadratic time, and refuse a whole picture for a broken
text in it. So a file is taken apart first, by the lengths that it states, and a decoder sees the picture alone: not
what lies behind it (the film of a motion photo, the second picture of an MPO), beside it (texts, profiles, thumbnails)
or after its first frame. Everything is counted, so that time and memory are known before a decoder starts.

JPEG: ITU-T T.81, annex B. PNG: its third edition, chapter 5. WebP: RFC 9649. GIF: GIF89a. EXIF: TIFF 6.0, section 2.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from components.core.reasons import Reason

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_WINDOW = 256 * 1024  # bytes looked through in one go, in which no other thread runs
_UPRIGHT = 1


@dataclass(frozen=True)
class Limits:
    """What a photo may be. Everything is checked before pixels are decoded.

    `max_pixels` holds where every pixel is decoded, `max_scaled_pixels` for a JPEG, which libjpeg scales while it
    decodes. `max_memory` is in bytes. Thousands of empty scans of a JPEG, or of other parts, cost minutes.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000
    max_scaled_pixels: int = 220_000_000
    min_side: int = 16
    max_side: int = 20_000
    max_memory: int = 400 * 1024 * 1024
    max_scans: int = 100
    max_scanned_pixels: int = 1_200_000_000  # of a progressive JPEG, every scan of which goes over the whole photo
    max_segments: int = 2_000  # of a JPEG: its largest metadata has 320
    max_chunks: int = 25_000  # of a PNG
    max_blocks: int = 100_000  # of a GIF, of 255 bytes each


DEFAULT_LIMITS = Limits()


class ImageRejected(Exception):
    """The bytes are no photo that can be counted. `message` is one sentence."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class ImageFile:
    """A picture without what does not belong to it.

    `width` and `height` are as stored, before `orientation` (EXIF, 1 to 8) turns the picture. `picture` is a file of
    the same format. `memory` is what decoding it takes, in bytes, where it is not scaled while it is decoded.
    """

    format: str
    width: int
    height: int
    orientation: int
    picture: bytes
    memory: int


def read_image_file(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ImageFile:
    """Take an image file apart. Raises ImageRejected."""
    if not data:
        raise ImageRejected(Reason.EMPTY, "The image is empty (0 bytes).")
    if len(data) > limits.max_bytes:
        raise ImageRejected(
            Reason.TOO_MANY_BYTES, f"The image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted."
        )
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _Jpeg(data, limits).read()
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data, limits)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data, limits)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _read_gif(data, limits)
    except (struct.error, IndexError) as error:
        raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.") from error
    raise ImageRejected(
        Reason.NOT_AN_IMAGE, f"These bytes are no image that can be read; send one of {', '.join(ACCEPTED_FORMATS)}."
    )


def _checked(file: ImageFile, limits: Limits) -> ImageFile:
    """The file, if its size is one that is accepted."""
    width, height, pixels = file.width, file.height, file.width * file.height
    most = limits.max_scaled_pixels if file.format == "JPEG" else limits.max_pixels
    if min(width, height) < limits.min_side:
        raise ImageRejected(
            Reason.TOO_SMALL, f"The image has {width}×{height} pixels; each side needs at least {limits.min_side}."
        )
    if max(width, height) > limits.max_side or pixels > most:
        raise ImageRejected(
            Reason.TOO_MANY_PIXELS,
            f"The image has {width}×{height} pixels; at most {most:,} and {limits.max_side:,} a side "
            f"are accepted of a {file.format}.",
        )
    if file.memory > limits.max_memory:
        raise ImageRejected(
            Reason.TOO_MUCH_MEMORY,
            f"The {file.format} image of {width}×{height} pixels would take {file.memory >> 20} MiB to decode; at most "
            f"{limits.max_memory >> 20} are accepted; send it smaller, or as a baseline JPEG.",
        )
    return file


def _too_many(what: str, number: int) -> ImageRejected:
    return ImageRejected(Reason.TOO_MANY_PARTS, f"The image has more than {number:,} {what}.")


class _Jpeg:
    """Goes through the segments of a JPEG up to its first end marker."""

    _IN_HEADERS = re.compile(rb"\xff[^\x00\xff]")
    _IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the restart markers belong to the scan
    _START, _END, _SCAN, _JFIF, _EXIF, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
    _FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
    _TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD))
    _ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
    _PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
    # Zeros in place of lost data would be decoded as more of the picture.
    _ZEROS = re.compile(rb"\x00{16,}\Z")

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._limits = data, limits
        self._parts = [b"\xff\xd8"]
        self._frame = b""
        self._is_progressive = self._is_interleaved = False
        self._orientation: int | None = None
        self._scans = 0

    def read(self) -> ImageFile:
        """The picture, ended by a marker whether or not the file has one. Raises ImageRejected."""
        for code, start, end in self._segments():
            content = self._data[start + 4 : end]
            if code in self._FRAMES and not self._frame:
                self._frame, self._is_progressive = content, code in self._PROGRESSIVE
            if code == self._EXIF and self._orientation is None and content.startswith(b"Exif\0\0"):
                self._orientation = _orientation(content[6:])
            if code == self._SCAN:
                self._is_interleaved = self._is_interleaved or content[0] == self._frame[5]
            if self._is_of_the_picture(code, content):
                self._parts.append(self._data[start:end])
        if not self._frame:
            raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.")
        self._parts[-1] = self._ZEROS.sub(b"", self._parts[-1]) + b"\xff\xd9"
        height, width = struct.unpack_from(">HH", self._frame, 1)
        if self._is_progressive and width * height * self._scans > self._limits.max_scanned_pixels:
            raise self._too_many_scans(self._limits.max_scanned_pixels // (width * height))
        memory = 0 if self._is_interleaved and not self._is_progressive else self._coefficients(width, height)
        picture = b"".join(self._parts)
        return _checked(ImageFile("JPEG", width, height, self._orientation or _UPRIGHT, picture, memory), self._limits)

    def _is_of_the_picture(self, code: int, content: bytes) -> bool:
        # The two segments that say what the colours mean; libjpeg looks at no shorter ones.
        if code == self._JFIF:
            return len(content) >= 14 and content.startswith(b"JFIF\0")
        if code == self._ADOBE:
            return len(content) >= 12 and content.startswith(b"Adobe")
        return code == self._SCAN or code in self._FRAMES or code in self._TABLES

    def _segments(self) -> Iterator[tuple[int, int, int]]:
        """Marker, first byte and end of every segment; that of a scan includes the scan's data."""
        place = 2
        for number in itertools.count():
            start = self._find(self._IN_HEADERS, place)
            if start is None:
                return
            code, place = self._data[start + 1], start + 2
            if code == self._END:
                return
            if number >= self._limits.max_segments:
                raise _too_many("segments", self._limits.max_segments)
            if code in self._ALONE:
                continue
            end = place + int(struct.unpack_from(">H", self._data, place)[0])
            if end > len(self._data) or end < place + 2:
                raise ImageRejected(Reason.CORRUPT, "The JPEG image is damaged or incomplete: it ends within a header.")
            if code == self._SCAN:
                if not self._frame:
                    raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.")
                self._scans += 1
                if self._scans > self._limits.max_scans:
                    raise self._too_many_scans(self._limits.max_scans)
                following = self._find(self._IN_SCAN, end)
                end = len(self._data) if following is None else following
            yield code, start, end
            place = end

    def _find(self, pattern: re.Pattern[bytes], place: int) -> int | None:
        for window in range(place, len(self._data), _WINDOW):
            if found := pattern.search(self._data, window, window + _WINDOW + 1):
                return found.start()
        return None

    def _coefficients(self, width: int, height: int) -> int:
        """Bytes of all DCT coefficients, which a JPEG of several scans is decoded from: two each."""
        factors = [divmod(sampling, 16) for sampling in self._frame[7::3][: self._frame[5]]]
        widest, highest = (max(1, *sides) for sides in zip((1, 1), *factors, strict=True))
        return sum(2 * width * height * x * y // (widest * highest) for x, y in factors)

    def _too_many_scans(self, number: int) -> ImageRejected:
        return ImageRejected(Reason.TOO_MANY_SCANS, f"The JPEG has more than {number} scans.")


def _orientation(tiff: bytes) -> int | None:
    """The orientation as viewers read it: one SHORT from 1 to 8 in the first directory of a TIFF header, or none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for place in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, place)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else None
    except struct.error:  # broken EXIF: viewers show the photo as it is stored
        pass
    return None


_RGB_PIXEL = 4  # bytes in memory, as Pillow keeps it
_PNG_PIXEL = {0: 1, 2: 0, 3: 1, 4: 4, 6: 4}  # bytes besides, by colour type


def _read_png(data: bytes, limits: Limits) -> ImageFile:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR":
        raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.")
    memory = width * height * (_RGB_PIXEL + _PNG_PIXEL.get(colour, 4) * (2 if depth == 16 and colour == 0 else 1))
    orientation, chunks, pixels = _UPRIGHT, [data[:8]], []
    place = 8
    for number in itertools.count():
        if place + 8 > len(data):
            break  # without an end: the pixels say whether all of them are there
        if number >= limits.max_chunks:
            raise _too_many("chunks", limits.max_chunks)
        length, kind = struct.unpack_from(">I4s", data, place)
        start, place = place, place + 12 + length
        content = data[start + 8 : place - 4]
        if kind == b"IDAT":
            pixels.append(content)
        elif kind == b"IEND":
            break
        elif pixels:
            continue  # metadata, and further frames of an animation
        elif kind in (b"IHDR", b"PLTE"):
            chunks.append(data[start:place])
        elif kind in (b"tRNS", b"eXIf") and data[place - 4 : place] == struct.pack(">I", zlib.crc32(kind + content)):
            if kind == b"eXIf":
                orientation = _orientation(content) or _UPRIGHT
            else:
                chunks.append(data[start:place])
    chunks += [_png_chunk(b"IDAT", b"".join(pixels)), _png_chunk(b"IEND", b"")]
    return _checked(ImageFile("PNG", width, height, orientation, b"".join(chunks), memory), limits)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])


_WEBP_PIXEL = 16  # bytes of a pixel while it is decoded: canvas, the frame before, two copies


def _read_webp(data: bytes, limits: Limits) -> ImageFile:
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ImageRejected(Reason.CORRUPT, "The header of the image is damaged.")
    if kind == b"VP8X":
        width, height = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    elif kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    end = min(len(data), 8 + int(struct.unpack_from("<I", data, 4)[0]))
    exif, place = b"", 12
    for number in itertools.count():
        if place + 8 > end:
            break
        if number >= limits.max_segments:
            raise _too_many("chunks", limits.max_segments)
        name, length = struct.unpack_from("<4sI", data, place)
        if name == b"EXIF" and not exif:
            exif = data[place + 8 : place + 8 + length].removeprefix(b"Exif\0\0")
        place += 8 + length + length % 2
    memory = width * height * _WEBP_PIXEL
    return _checked(ImageFile("WEBP", width, height, _orientation(exif) or _UPRIGHT, data[:end], memory), limits)


def _read_gif(data: bytes, limits: Limits) -> ImageFile:
    """Up to the end of the first frame, which may be larger than the screen that the header states."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + _gif_colours(flags)
    blocks = 0

    def skip_blocks(place: int) -> int:
        nonlocal blocks
        while place < len(data) and data[place]:
            place += 1 + data[place]
            blocks += 1
            if blocks > limits.max_blocks:
                raise _too_many("blocks", limits.max_blocks)
        return place + 1

    start = data[:place]
    control = b""
    while data[place] == 0x21:
        end = skip_blocks(place + 2)
        if data[place + 1] == 0xF9:  # what is transparent
            control = data[place:end]
        place = end
    if data[place] != 0x2C:
        raise ImageRejected(Reason.CORRUPT, "The GIF image is damaged or incomplete.")
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, place + 1)
    end = skip_blocks(place + 11 + _gif_colours(flags))
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    picture = start + control + data[place:end] + b"\x3b"
    return _checked(ImageFile("GIF", width, height, _UPRIGHT, picture, width * height * (_RGB_PIXEL + 1)), limits)


def _gif_colours(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0
