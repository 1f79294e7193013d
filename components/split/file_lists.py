"""File lists in the original's JSON form: {"1": ["data/metadata/100313.json", …], …, "5": […]}."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from components.core.errors import UserError
from components.core.files import write_whole
from components.core.layout import IMAGE_ID, metadata_key
from components.core.place import read_place

LISTED_SUBSETS = ("train", "validation", "test")
ORIGINAL_FOLDER = "data/"


def read_file_lists(place: str) -> dict[str, list[str]]:
    """Ids by subset. `place` is one file, which is the training list, or a folder with train.json and the like.

    Either may be a path or an s3:// address; an empty string means that no lists are given. Raises UserError when there
    is nothing, when a file has another form, or when an id stands in it twice.
    """
    if not place:
        return {}
    if place.endswith(".json"):
        data = read_place(place)
        if data is None:
            raise UserError(f"There is no file list at {place}; check FILE_LISTS.")
        lists = {"train": _parse(place, data)}
    else:
        found = {subset: read_place(f"{place.rstrip('/')}/{subset}.json") for subset in LISTED_SUBSETS}
        lists = {subset: _parse(f"{place}/{subset}.json", data) for subset, data in found.items() if data is not None}
        if not lists:
            raise UserError(f"There is no train.json, validation.json or test.json at {place}; check FILE_LISTS.")
    _refuse_repeats(lists)
    return lists


def write_file_lists(folder: Path, splits: pd.DataFrame) -> None:
    """Write train.json, validation.json and test.json of a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for subset in LISTED_SUBSETS:
        chosen = splits[splits["subset"] == subset]
        listed = {
            str(quantity): [ORIGINAL_FOLDER + metadata_key(image_id) for image_id in bins["image_id"]]
            for quantity, bins in chosen.groupby("quantity")
        }
        write_whole(folder / f"{subset}.json", json.dumps(listed, indent=1))


def _parse(place: str, data: bytes) -> list[str]:
    try:
        listed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"The file list {place} is not JSON; check FILE_LISTS.") from error
    if not isinstance(listed, dict) or not all(isinstance(entries, list) for entries in listed.values()):
        raise UserError(f'The file list {place} is not of the form {{"1": ["data/metadata/00001.json", …], …}}.')
    return [_image_id(place, entry) for entries in listed.values() for entry in entries]


def _image_id(place: str, entry: object) -> str:
    name = PurePosixPath(entry).stem if isinstance(entry, str) else ""
    if not IMAGE_ID.fullmatch(name):
        raise UserError(f"The file list {place} names {str(entry)[:60]!r}, which is no metadata file of a bin.")
    return name


def _refuse_repeats(lists: Mapping[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for subset, ids in lists.items():
        for image_id in ids:
            if image_id in seen:
                where = (
                    f"twice in the {subset} list" if seen[image_id] == subset else f"in {seen[image_id]} and {subset}"
                )
                raise UserError(f"The bin {image_id} stands {where}; a bin belongs to one subset.")
            seen[image_id] = subset
