"""What pydantic says of bad values, as a part of a sentence."""

from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """Where the value stands (`a.b`, "" for the whole), what is wrong, the value, and whether the field is unknown."""

    where: str
    message: str
    value: object
    unknown: bool


def first_problem(error: ValidationError) -> Problem:
    """The first problem of many; its message begins small and has no full stop, to stand behind a colon."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be").rstrip(".")
    return Problem(
        where=".".join(str(part) for part in first["loc"]),
        message=message[:1].lower() + message[1:],
        value=first["input"],
        unknown=first["type"] == "extra_forbidden",
    )
