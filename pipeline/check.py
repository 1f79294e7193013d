"""`make check SOURCE=<folder>`: what a folder holds, whether it is enough, and what is passed over, before a run."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import METADATA_PREFIX
from components.core.pixels import ImageRejected, read_image_file, squash
from components.core.place import is_address
from components.core.records import RECORDS_SCHEMA, SUBSETS, Record, TableWriter, read_splits
from components.core.spreadsheets import write_csv
from pipeline.local_store import HOME
from pipeline.parameters import Parameters
from pipeline.source.fill import GENERATED, open_folder
from pipeline.source.folder import FolderSource
from pipeline.source.photos import PhotoFolder

STRONG_TEST_BINS = 100  # the gate calls a verdict on fewer weak
_SIDE = 32  # pixels that a photo is squashed to, only to see that it decodes
_BAR = 40
_SHOWN = 5


@dataclass(frozen=True)
class Checked:
    """A photo with a count: what its owner calls it, and why it cannot be read ("" where it can)."""

    record: Record
    name: str
    problem: str


def check_folder(parameters: Parameters, report: Path = HOME / "check.csv") -> None:
    """Print the findings, and write all of them to `report`. Raises UserError for a source that no run could use."""
    if parameters.source == GENERATED or is_address(parameters.source):
        raise UserError(f"`make check` looks into a folder, and SOURCE={parameters.source} is none; name your folder.")
    source = open_folder(parameters.source)
    found = list(_photos(source) if isinstance(source, PhotoFolder) else _bins(source))
    good = [one for one in found if not one.problem]
    bad = [(one.name, one.problem) for one in found if one.problem]
    passed_over = list(source.skipped.rows())
    if isinstance(source, PhotoFolder):
        print(f"{parameters.source}: photos under names of their own, counts from {source.table.name}")
    else:
        print(f"{parameters.source}: the dataset's layout")
    print(f"  {len(good):,} photos with a count, {len(bad):,} that cannot be read, {len(passed_over):,} passed over")
    for why, number in Counter(why for _, why in [*bad, *passed_over]).most_common():
        names = [name for name, reason in [*bad, *passed_over] if reason == why]
        more = " …" if number > _SHOWN else ""
        print(f"    {number:,}: {why} ({', '.join(names[:_SHOWN])}{more})")
    _write(report, good, bad, passed_over)
    print(f"  every file with its verdict: {report}")
    if not good:
        raise UserError(f"SOURCE={parameters.source} holds no photo with a count that can be read.")
    if len(bad) > parameters.max_reject_share * len(found):
        print(
            f"  a run would stop at so many unreadable photos: mend or remove them, or give MAX_REJECT_SHARE="
            f"{len(bad) / len(found) + 0.005:.2f}"
        )
    _histogram([one.record.quantity for one in good], parameters.max_count)
    _split([one.record for one in good], parameters)


def _photos(source: PhotoFolder) -> Iterator[Checked]:
    """The photos of a folder, all cores decoding."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(lambda photo: _problem((source.folder / photo.file).read_bytes()), source.photos)
        for photo, problem in zip(source.photos, problems, strict=True):
            row = photo.row
            yield Checked(Record(photo.image_id, row.count or 0, group=row.bin, file=photo.file), photo.file, problem)


def _bins(source: FolderSource) -> Iterator[Checked]:
    """The bins of a folder in the dataset's layout: metadata come first, then the photos."""
    quantities: dict[str, int | str] = {}
    for key, content in source.files():
        image_id = Path(key).stem
        if key.startswith(METADATA_PREFIX):
            quantities[image_id] = _quantity(content)
            continue
        quantity = quantities.pop(image_id, "it has no metadata")
        problem = quantity if isinstance(quantity, str) else _problem(content)
        yield Checked(Record(image_id, quantity if isinstance(quantity, int) else 0), key, problem)
    for image_id in quantities:
        yield Checked(Record(image_id, 0), f"{METADATA_PREFIX}{image_id}.json", "its photo is missing")


def _quantity(content: bytes) -> int | str:
    """The quantity in a metadata file, or a word on why there is none; ingest reads the rest of it."""
    try:
        quantity = json.loads(content)["EXPECTED_QUANTITY"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "its metadata name no quantity"
    return quantity if type(quantity) is int and quantity >= 0 else "its quantity is no whole number"


def _problem(data: bytes) -> str:
    try:
        squash(read_image_file(data), _SIDE)
    except ImageRejected as error:
        return error.message.rstrip(".")
    return ""


def _histogram(counts: list[int], max_count: int) -> None:
    sizes = Counter(counts)
    largest = max(sizes.values())
    print("\n  count  photos")
    for count in sorted({*sizes, *range(1, max_count + 1)}):
        beyond = "" if 1 <= count <= max_count else "  (not counted; teaches what is out of range)"
        print(f"  {count:5} {sizes[count]:7,}  {'█' * round(_BAR * sizes[count] / largest)}{beyond}")


def _split(records: list[Record], parameters: Parameters) -> None:
    """What the split step itself makes of these bins. Raises UserError with its sentence when it refuses them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with TableWriter.open(folder / "records", RECORDS_SCHEMA) as table:
            table.append(records)
        options = {
            "records": folder / "records",
            "splits": folder / "splits",
            "lists": folder / "lists",
            "report": folder / "split.html",
            "max-count": parameters.max_count,
            "seed": parameters.seed,
            "validation-share": parameters.validation_share,
            "test-share": parameters.test_share,
        }
        words = [f"--{option}={value}" for option, value in options.items()]
        divided = subprocess.run(
            [sys.executable, "-m", "components.split", *words], capture_output=True, text=True, check=False
        )
        if divided.returncode:
            raise UserError(f"It is not enough for a run. {divided.stderr.strip().removeprefix('error: ')}")
        sizes = read_splits(folder / "splits")["subset"].value_counts()
    print("\n  the split: " + ", ".join(f"{subset} {int(sizes.get(subset, 0)):,}" for subset in SUBSETS))
    test = int(sizes["test"])
    if test < STRONG_TEST_BINS:
        print(
            f"  enough for a run; its verdict will be weak, because {test} test photos tell little "
            f"({STRONG_TEST_BINS} and more tell more)"
        )
    else:
        print("  enough for a run")


def _write(path: Path, good: list[Checked], bad: list[tuple[str, str]], passed_over: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    used = ((one.name, one.record.image_id, one.record.quantity, "used") for one in good)
    others = ((name, "", "", why) for name, why in [*bad, *passed_over])
    write_csv(path, ("file", "id", "count", "verdict"), chain(used, others))
