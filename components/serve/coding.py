"""Bodies under a Content-Encoding: decoded while they arrive, a piece at a time, so that none grows unseen."""

import zlib
from collections.abc import Iterator

from components.serve.refusal import Refusal, bad_request

ACCEPTED_CODINGS = "gzip, deflate"
_PIECE = 256 * 1024
# What follows a member is copied for the next one: many small ones take time that grows with the square.
_MOST_MEMBERS = 1_000
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Decoder:
    """Decodes one body of the coding gzip or deflate (RFC 9110, 8.4.1)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._members = 1

    @classmethod
    def of(cls, coding: str) -> "Decoder | None":
        """The decoder of a Content-Encoding, None where there is nothing to decode. Raises Refusal."""
        name = coding.strip().lower()
        if name in ("", "identity"):
            return None
        if name not in ("gzip", "x-gzip", "deflate"):
            message = (
                f"The Content-Encoding {name!r:.60} is not accepted; send the body as it is, or by gzip or deflate."
            )
            raise Refusal(415, "content_encoding", message, headers={"Accept-Encoding": ACCEPTED_CODINGS})
        return cls()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What some more bytes decode to, in pieces of bounded size. Raises Refusal."""
        try:
            while data:
                if self._stream.eof:  # a file of several gzip members
                    self._next_member()
                yield self._stream.decompress(data, _PIECE)
                data = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error as error:
            raise self._damaged() from error

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise Refusal(413, "too_many_parts", f"The body has more than {_MOST_MEMBERS:,} parts compressed apart.")
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    def end(self) -> None:
        """Say that no more bytes come. Raises Refusal where some are missing."""
        if not self._stream.eof:
            raise self._damaged()

    def _damaged(self) -> Refusal:
        return bad_request(
            "bad_encoding", "The body is not what its Content-Encoding says, or a part of it is missing."
        )
