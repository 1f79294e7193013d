"""The audit: every photo is asked about, every record judged by it, and a recount list made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.audit.page import About, write_page
from components.audit.photos import PhotoFile, Photos, photos_at
from components.audit.rank import MORE, Terms, judge, recount_list
from components.audit.records_table import Told, read_records
from components.audit.recounts import Known
from components.audit.score import score
from components.core.bundle import bundle_version, read_bundle
from components.core.contents import BinRecord
from components.core.errors import UserError
from components.core.files import written_whole
from components.core.photo_names import PhotoNames
from components.core.posterior import RecordModel, read_record_model
from components.core.spreadsheets import write_csv

RECOUNT_COLUMNS = (
    "rank",
    "file",
    "bin",
    "site",
    "camera",
    "taken_at",
    "recorded",
    "likeliest",
    "probability",
    "value",
    "reason",
    "why",
    "chance",
    "counted",  # for people to fill in
    "by",
    "when",
)
_TOLD = ("bin", "site", "camera", "taken_at")


@dataclass(frozen=True)
class Audited:
    """What an audit found: all bins with photo and record, the list, and what was left out as (name, reason)."""

    bins: pd.DataFrame
    listed: pd.DataFrame
    left_out: list[tuple[str, str]]


def audit(
    bundle_folder: Path, photos_place: str, records_path: Path, terms: Terms, out: Path, known: Known | None = None
) -> Audited:
    """Write audit.parquet, recount.csv, left_out.csv and audit.html into `out`.

    `known` is what recounts of earlier audits say of how often records are wrong; `terms` go before it.
    Interrupted and run again it goes on where it was, and writes the same. Raises UserError for a model that knows
    nothing of records, and for photos and records of which none belong together.
    """
    bundle = read_bundle(bundle_folder)
    model = read_record_model(bundle)
    if model is None:
        raise UserError(
            "This model knows nothing of records, which are learned with bins that are empty or hold more than is "
            "counted; train with RECIPE=finetune on a source that has such bins."
        )
    photos = photos_at(photos_place)
    files = photos.listed()
    if not files:
        raise UserError(f"There are no photos at {photos_place}; give a folder or a prefix that holds some.")
    matched, left_out = match(files, read_records(records_path), records_path.name)
    if not matched:
        raise UserError(
            f"Not one of the {len(files):,} photos at {photos_place} has a record in {records_path.name}; write the "
            f"photos' names into its column for the file. {': '.join(left_out[0])}."
        )
    wanted = [file for file in files if file.name in matched]
    out.mkdir(parents=True, exist_ok=True)
    seen = score(bundle, photos, wanted, out / "parts").to_pandas()
    told = [matched[file] for file in seen["file"]]
    records = [one.record or BinRecord(0) for one in told]
    rates = _rates(model, terms, known, [one.site for one in told])
    judged = judge(model, records, seen, terms, rates)
    bins = pd.concat([seen[["file", "brightness", "sharpness"]], judged], axis=1)
    for place, name in enumerate(_TOLD, start=1):
        bins.insert(place, name, [getattr(one, name) for one in told])
    listed = recount_list(bins, terms)
    version = bundle_version(bundle.folder)
    _write(out, bins, listed, left_out)
    about = About(version, len(left_out), (float(rates.min()), float(rates.max())), str(known) if known else "")
    write_page(out / "audit.html", bins, listed, terms, about, lambda name: _read(photos, name))
    return Audited(bins, listed, left_out)


def _rates(model: RecordModel, terms: Terms, known: Known | None, sites: Sequence[str]) -> NDArray[np.float64]:
    """The share of wrong records to go by for each bin: the one that is given, else by recounts, else the model's."""
    if terms.error_rate is not None:
        return np.full(len(sites), terms.error_rate)
    shares = {site: known.share_at(site) if known else None for site in set(sites)}
    return np.array([model.error_rate if (share := shares[site]) is None else share for site in sites])


def match(
    files: Sequence[PhotoFile], rows: Iterable[Told], table: str
) -> tuple[dict[str, Told], list[tuple[str, str]]]:
    """The record of each photo, and photos and records that have no use, with the reason."""
    names = PhotoNames(file.name for file in files)
    matched: dict[str, Told] = {}
    left_out: list[tuple[str, str]] = []
    refused: set[str] = set()
    for told in rows:
        name, problem = names.find(told.file) if told.file else ("", "it names no photo")
        problem = problem or told.problem
        if not problem and name in refused:
            problem = "another row has this photo with another record"
        elif not problem and name in matched:
            if matched[name].record == told.record:
                continue  # said twice
            problem = f"row {matched[name].row} has this photo with another record"
            del matched[name]
        if problem:
            left_out.append((told.file or f"row {told.row}", problem))
            refused.add(name)
        else:
            matched[name] = told
    left_out += [
        (file.name, f"a photo that {table} does not name")
        for file in files
        if file.name not in matched and file.name not in refused
    ]
    return matched, left_out


def _write(out: Path, bins: pd.DataFrame, listed: pd.DataFrame, left_out: list[tuple[str, str]]) -> None:
    table = pa.Table.from_pandas(bins, preserve_index=False).replace_schema_metadata(None)
    with written_whole(out / "audit.parquet") as partial:
        pq.write_table(table, partial, compression="zstd")
    shown = listed.assign(
        likeliest=["" if pd.isna(one) else "more" if one == MORE else int(one) for one in listed["likeliest"]],
        probability=["" if pd.isna(one) else round(float(one), 4) for one in listed["probability"]],
        value=["" if pd.isna(one) else round(float(one), 3) for one in listed["value"]],
        chance=[round(float(one), 6) for one in listed["chance"]],
        **dict.fromkeys(("counted", "by", "when"), ""),
    )
    write_csv(out / "recount.csv", RECOUNT_COLUMNS, shown[list(RECOUNT_COLUMNS)].itertuples(index=False, name=None))
    write_csv(out / "left_out.csv", ("name", "reason"), left_out)


def _read(photos: Photos, name: str) -> bytes | None:
    try:
        return photos.read(name)
    except OSError:
        return None
