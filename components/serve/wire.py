"""How large a protobuf message gets when it is parsed, from its bytes alone.

An empty element takes two bytes on the wire and a hundred times that as an object, so elements are counted before a
message is parsed (protobuf.dev/programming-guides/encoding). Only photos may be long: everything else in a request is
names, shapes and quantities.
"""

from components.serve.refusal import Refusal, bad_request

# Fields of inference.ModelInferRequest by their numbers on the way to a photo.
_INPUTS, _RAW, _CONTENTS, _BYTES = 5, 7, 5, 8
_MESSAGES = {(), (_INPUTS,), (_INPUTS, _CONTENTS)}
_PHOTOS = {(_RAW,), (_INPUTS, _CONTENTS, _BYTES)}
_MOST_ELEMENTS = 2_000
_MOST_OTHER_BYTES = 64 * 1024


def check_infer_request(message: bytes) -> None:
    """Refuse a ModelInferRequest of too many elements. Raises Refusal."""
    _Counter(message).count(0, len(message), ())


class _Counter:
    def __init__(self, message: bytes) -> None:
        self._message = message
        self._elements = self._others = 0

    def count(self, place: int, end: int, path: tuple[int, ...]) -> None:
        """Go through the fields of the message from `place` to `end`, which lies at `path` in the request."""
        while place < end:
            self._elements += 1
            if self._elements > _MOST_ELEMENTS:
                raise Refusal(413, "too_many_parts", f"The request has more than {_MOST_ELEMENTS:,} elements.")
            key, place = self._number(place, end)
            field, kind = (*path, key >> 3), key & 7
            if kind == 0:
                _, place = self._number(place, end)
            elif kind in (1, 5):
                place += 8 if kind == 1 else 4
            elif kind == 2:
                length, place = self._number(place, end)
                if length > end - place:
                    raise _unreadable()
                if field in _MESSAGES:
                    self.count(place, place + length, field)
                elif field not in _PHOTOS:
                    self._others += length
                    if self._others > _MOST_OTHER_BYTES:
                        message = f"The request has more than {_MOST_OTHER_BYTES:,} bytes besides its photos."
                        raise Refusal(413, "too_many_parts", message)
                place += length
            else:
                raise _unreadable()

    def _number(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self._message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise _unreadable()


def _unreadable() -> Refusal:
    return bad_request("bad_protobuf", "The message cannot be read.")
