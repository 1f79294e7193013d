"""Why something is left out of the data or refused by the endpoint: the words to group by, each in one place.

The values stand in tables that are kept and in metrics that are watched, so they stay; a member is added below the
others of its kind, with the sentence about what was found written where it is raised.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A reason. Those of photos are the same at download and at the endpoint, which judge by the same rule."""

    # Of a photo (components/core/image_file.py, pixels.py).
    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    TOO_SMALL = "too_small"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_SCANS = "too_many_scans"
    TOO_MANY_PARTS = "too_many_parts"
    TOO_MUCH_MEMORY = "too_much_memory"

    # Of an object in the store.
    MISSING = "missing"
    DAMAGED = "damaged"
    OUTSIDE_THE_LAYOUT = "outside the layout"

    # Of a metadata file or a row of a table.
    TOO_LARGE = "too large"
    NESTED_TOO_DEEP = "nested too deep"
    NOT_UTF8 = "not UTF-8"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not an object"
    NO_QUANTITY = "no quantity"
    BAD_QUANTITY = "bad quantity"
    BAD_CONTENTS = "bad contents"
    UNKNOWN_UNIT = "unknown unit"
    BAD_ID = "bad id"
    DUPLICATE_ID = "duplicate id"


# What may be right the next time it is asked for.
PASSING = frozenset({Reason.MISSING, Reason.DAMAGED})
