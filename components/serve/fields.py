"""The fields of an answer: the one table that V1, V2, gRPC, the metadata and the OpenAPI description come from."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """A field of an Answer, by its name there.

    `datatype` is that of the V2 output; `one_a_count` says that it holds a number for each of 1…max_count. A field that
    may be null is no V2 output where no photo of the request has it. Fields `of_record` are in the answers to photos
    that came with a record; V2 gives them as soon as one photo did, and for rows without a value `no_value`.
    """

    name: str
    datatype: str
    meaning: str
    least: float
    most: float | None
    one_a_count: bool = False
    may_be_null: bool = False
    of_record: bool = False

    @property
    def dtype(self) -> str:
        """The numpy type of the V2 output, little endian."""
        return {"INT64": "<i8", "FP32": "<f4"}[self.datatype]

    @property
    def no_value(self) -> float:
        """What stands in a V2 tensor for null: NaN, or -1 where numbers are whole."""
        return -1 if self.datatype == "INT64" else math.nan

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the V1 field."""
        number: dict[str, Any] = {"type": "integer" if self.datatype == "INT64" else "number", "minimum": self.least}
        if self.most is not None:
            number["maximum"] = self.most
        if self.one_a_count:
            return {"type": "array", "items": number, "description": self.meaning}
        if self.may_be_null:
            return {"anyOf": [number, {"type": "null"}], "description": self.meaning}
        return {**number, "description": self.meaning}

    def tensor(self, max_count: int) -> dict[str, Any]:
        """The V2 output as the metadata names it."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, max_count] if self.one_a_count else [-1]}


FIELDS = (
    Field("count", "INT64", "The most probable count of 1…max_count", 1, None),
    Field("scores", "FP32", "Probability of each count, given that it is one of 1…max_count", 0, 1, one_a_count=True),
    Field("expected_count", "FP32", "Mean of the count under the scores", 1, None),
    Field(
        "out_of_range",
        "FP32",
        "Probability of 0 or more than max_count items; null where the model knows no such bins",
        0,
        1,
        may_be_null=True,
    ),
    Field(
        "mismatch_probability",
        "FP32",
        "Probability that the bin does not hold the quantity on record, by photo and record together; null for a "
        "quantity beyond max_count, and where the model knows nothing of records",
        0,
        1,
        may_be_null=True,
        of_record=True,
    ),
    Field(
        "photo_mismatch",
        "FP32",
        "The same by the photo alone, as if records said nothing; null where the model knows nothing of the quantity",
        0,
        1,
        may_be_null=True,
        of_record=True,
    ),
    Field(
        "likeliest_count",
        "INT64",
        "The likeliest number of items by photo and record together, 0 among them; null where that is more than "
        "max_count, and where the model knows nothing of records",
        0,
        None,
        may_be_null=True,
        of_record=True,
    ),
)
