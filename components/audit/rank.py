"""Which bins to recount: the likeliest wrong records, and some drawn at random.

Recounts of ranked bins alone say nothing of how often records are wrong, for they were chosen to be wrong. So a part of
the budget goes to bins drawn at random among the others, each with a known chance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.core.contents import BinRecord
from components.core.count_sets import count_sets
from components.core.posterior import RecordModel

RANDOM_SHARE = 0.1  # of the budget
DARK = 0.06  # mean brightness below which a photo shows nothing
BLURRED = 0.004  # sharpness likewise; a photo of the dataset has 0.02 to 0.15 at 208 px
MORE = -1  # stands for "more than the model counts"


@dataclass(frozen=True)
class Terms:
    """What a recount list is made by: how many recounts, or as many as pay; costs in any one unit."""

    budget: int | None = 200
    recount_costs: float = 1.0
    wrong_record_costs: float = 10.0
    error_rate: float | None = None  # the share of records that are wrong; by recounts or the model if None
    seed: int = 0


def judge(
    model: RecordModel,
    records: Sequence[BinRecord],
    seen: pd.DataFrame,
    terms: Terms,
    rates: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """For N bins with record and photo (a row of `seen` each): what to think of every record.

    `rates` are the shares of records that are wrong where each of the bins is; the model's own if None.
    Columns `recorded`, `products` (how many kinds, <NA> where not known), `count` (by the photo, MORE for more),
    `likeliest` (by both), `probability` that the record is wrong, `photo_mismatch`, `value` of a recount, `unclear`
    (why the photo cannot tell, "" where it can).
    """
    readable = seen["problem"].to_numpy(str) == ""
    places = np.flatnonzero(readable)
    classes = np.full((len(seen), model.max_count + 2), np.nan)
    if len(places):
        classes[places] = np.array(seen["classes"].iloc[places].tolist(), np.float64)
    recorded = np.array([record.quantity for record in records], int)
    inside = readable & (recorded <= model.max_count)
    rows = np.flatnonzero(inside)
    posterior = np.full_like(classes, np.nan)
    if len(rows):
        posterior[rows] = model.posterior(
            classes[rows], [records[row] for row in rows.tolist()], None if rates is None else rates[rows]
        )
    probability = np.full(len(seen), np.nan)
    photo_mismatch = np.full(len(seen), np.nan)
    probability[rows] = 1 - posterior[rows, recorded[rows]]
    photo_mismatch[rows] = 1 - classes[rows, recorded[rows]]
    found = pd.DataFrame(
        {
            "recorded": recorded,
            "products": pd.array([None if one.products is None else len(one.products) for one in records], "Int64"),
            "count": _likeliest(classes, model.max_count),
            "likeliest": _likeliest(posterior, model.max_count),
            "probability": probability,
            "photo_mismatch": photo_mismatch,
            "value": probability * terms.wrong_record_costs - terms.recount_costs,
        }
    )
    found["unclear"] = _unclear(model, classes, seen)
    return found


def _likeliest(classes: np.ndarray, max_count: int) -> pd.Series:
    known = ~np.isnan(classes).any(axis=1)
    places = np.where(known, np.nan_to_num(classes).argmax(axis=1), 0)
    likeliest = pd.Series(np.where(places > max_count, MORE, places)).astype("Int64")
    return likeliest.mask(~known)


def _unclear(model: RecordModel, classes: np.ndarray, seen: pd.DataFrame) -> list[str]:
    """Why a photo cannot tell what the bin holds."""
    sets = None
    if model.sets is not None:
        sets = count_sets(np.nan_to_num(classes, nan=1 / classes.shape[1]), model.sets.photo)
    reasons = []
    looks = zip(seen["problem"], seen["brightness"], seen["sharpness"], strict=True)
    for place, (problem, brightness, sharpness) in enumerate(looks):
        if problem:
            reasons.append(str(problem))
        elif brightness < DARK:
            reasons.append("it is dark")
        elif sharpness < BLURRED:
            reasons.append("it is blurred or shows one thing all over")
        elif classes[place, 1:-1].sum() < 0.5:
            reasons.append(f"it shows an empty bin, or more than {model.max_count}")
        elif sets is not None and sets[place, 1] - sets[place, 0] + 1 >= classes.shape[1]:
            reasons.append("any count is possible")
        else:
            reasons.append("")
    return reasons


def recount_list(bins: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """The bins to recount, in order: `judge`'s table with a column `file`, and `rank`, `why`, `chance`, `reason` added.

    With a budget that many; else as many as pay. `chance` is the probability with which the bin came onto the list.
    """
    ranked = bins[bins["probability"].notna()].sort_values(
        ["probability", "file"], ascending=[False, True], kind="stable"
    )
    number = int((ranked["value"] > 0).sum()) if terms.budget is None else min(terms.budget, len(bins))
    drawn = min(-(-number // round(1 / RANDOM_SHARE)), len(bins)) if number else 0
    first = ranked.head(number - drawn) if terms.budget is not None else ranked.head(number)
    others = bins.drop(first.index)
    order = sorted(others.index, key=lambda place: _lot(str(bins["file"][place]), terms.seed))
    random = bins.loc[order[:drawn]]
    chance = drawn / len(others) if len(others) else 0.0
    listed = pd.concat([first.assign(why="ranked", chance=1.0), random.assign(why="random", chance=chance)])
    listed.insert(0, "rank", range(1, len(listed) + 1))
    listed["reason"] = [_reason(row) for row in listed.itertuples()]
    return listed.reset_index(drop=True)


def _lot(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {file}".encode("utf-8", "surrogateescape")).digest()


def _reason(row: object) -> str:
    """In words why a bin is on the list."""
    recorded, likeliest, why = (getattr(row, name) for name in ("recorded", "likeliest", "why"))
    if why == "random":
        return "drawn at random, to learn how often records are wrong"
    if likeliest != recorded:
        said = "more than the model counts" if likeliest == MORE else str(likeliest)
        return f"{said} is likelier than the recorded {recorded}"
    return f"the recorded {recorded} is doubtful, though no other count is likelier"
