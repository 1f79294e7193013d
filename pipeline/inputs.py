"""What a local run takes from the disk: checked before anything starts, then handed on by content.

The orchestrator judges by a step's arguments whether it has to run again. A path says nothing of what the file holds
today; an address in the store that is named after the content does.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET, input_prefix
from components.core.place import is_address
from components.core.recipe import choose_recipe
from components.core.store import open_store
from pipeline.parameters import Parameters
from pipeline.source import check_source

RANDOM_WEIGHTS = "random"
PLACES = ("file_lists", "weights")  # parameters that may be a path
_PUT = "put it into a bucket, and give its s3:// address"
_ADVICE = {"source": f"give a bucket such as s3://{PUBLIC_SOURCE_BUCKET}"}


def check_inputs(parameters: Parameters) -> None:
    """Refuse what can be known to fail without doing it. Raises UserError."""
    check_source(parameters.source)
    _check_recipe(parameters)
    for name in PLACES:
        path = _local_path(parameters, name)
        if path is not None and not _files(path):
            raise UserError(f"{name.upper()}={path}: there is no such file; give a path or an s3:// address.")


def check_sent(given: Mapping[str, Any]) -> None:
    """The same for what is given to a run on a cluster, where nothing is on a disk of ours. Raises UserError."""
    for name in ("source", *PLACES):
        value = given.get(name, "")
        if value and value != RANDOM_WEIGHTS and not is_address(value):
            raise UserError(
                f"{name.upper()}={value} is on this machine, where a cluster cannot read it; {_ADVICE.get(name, _PUT)}."
            )
    _check_recipe(Parameters.model_validate({name: given[name] for name in given if name in Parameters.model_fields}))


def _check_recipe(parameters: Parameters) -> None:
    choose_recipe(
        parameters.recipe, parameters.epochs, parameters.image_size, parameters.backbone, parameters.overrides
    )


def by_content(parameters: Parameters) -> Parameters:
    """The same parameters with local paths replaced by addresses in our bucket, where their content now lies."""
    stored = {}
    for name in PLACES:
        path = _local_path(parameters, name)
        if path is not None:
            stored[name] = _store(path, parameters.data_uri)
    return parameters.model_copy(update=stored)


def _local_path(parameters: Parameters, name: str) -> Path | None:
    value = getattr(parameters, name)
    return None if value in ("", RANDOM_WEIGHTS) or is_address(value) else Path(value)


def _files(path: Path) -> list[Path]:
    """The file itself, or the JSON files of a folder."""
    return [path] if path.is_file() else sorted(path.glob("*.json"))


def _store(path: Path, data_uri: str) -> str:
    contents = {file.name: file.read_bytes() for file in _files(path)}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    prefix = input_prefix(digest.hexdigest()[:16])
    store = open_store(data_uri)
    for name, content in contents.items():
        store.put(prefix + name, content)
    return f"{data_uri}/{prefix}{path.name}" if path.is_file() else f"{data_uri}/{prefix.rstrip('/')}"
