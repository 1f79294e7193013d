"""Parameters as options of a command: `PRESET=gke`, as make passes it on, and `--preset gke` mean the same."""

import argparse
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from components.core.errors import UserError
from pipeline.parameters import TABLE, AnyKind, Compilation, Door, Sending, read_words, validated

_FLAGS = TypeAdapter(bool)
_OTHER_SPELLINGS = {"kfp_host": ["--host"]}


def add_options(parser: argparse.ArgumentParser, kind: type[AnyKind], *, without: Sequence[str] = ()) -> None:
    """An option for each parameter of a kind."""
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        words = [_option(name), *_OTHER_SPELLINGS.get(name, [])]
        row = TABLE[name]
        action = "store_true" if field.annotation is bool else "store"
        described = row.meaning + (f" (default: {row.default})" if row.default and action == "store" else "")
        parser.add_argument(*words, dest=name, action=action, default=argparse.SUPPRESS, help=described)


def given_options(arguments: argparse.Namespace, kind: type[AnyKind]) -> AnyKind:
    """The parameters of a kind from options. Raises UserError naming the first value that cannot be."""
    return validated(kind, {name: value for name, value in vars(arguments).items() if name in kind.model_fields})


def as_options(words: Sequence[str], door: Door) -> list[str]:
    """The arguments of a command with every `NAME=value` that is an option of it put as that option.

    Raises UserError for a parameter that is not one of this door.
    """
    assignments = [word for word in words if "=" in word and not word.startswith("-")]
    others = [word for word in words if word not in assignments]
    options, parameters = [], []
    for name, value in read_words(assignments, door).items():
        if name not in Compilation.model_fields | Sending.model_fields:
            parameters.append(f"{name.upper()}={value}")
        elif (Compilation.model_fields | Sending.model_fields)[name].annotation is not bool:
            options.append(f"{_option(name)}={value}")
        elif _flag(name, value):
            options.append(_option(name))
    return [*others, *options, *parameters]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flag(name: str, value: str) -> bool:
    try:
        return _FLAGS.validate_python(value)
    except ValidationError as error:
        raise UserError(f"{name.upper()}={value} cannot be used: it should be true or false.") from error
