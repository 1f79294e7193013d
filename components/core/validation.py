"""What is said of bad values: pydantic's words as a part of a sentence, and numbers that come as text."""

from dataclasses import dataclass

from pydantic import ValidationError

from components.core.errors import UserError


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


def number(name: str, text: str, least: float, most: float, *, whole: bool = False) -> float:
    """The number that a variable of make was given as. Raises UserError for any other text, and outside the range."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or (whole and not value.is_integer()):
        kind = f"a whole number from {least:g}" if whole else f"a number from {least:g} to {most:g}"
        raise UserError(f"{name}={text} cannot be used: it should be {kind}.")
    return value
