"""Does the bin hold what its record says? Errors drawn into the records of held-out bins, and whether they are found.

Errors are edits of the list of products, the recorded quantity is always the sum of the list as it was edited, and
every feature is taken from the record as edited: a true list beside a wrong quantity would give the error away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.contents import BinRecord, Product
from components.core.count_sets import count_sets
from components.core.intervals import paired_interval
from components.core.posterior import RECOUNT_FROM, RecordModel
from components.core.record_errors import KINDS, Kind, draw_wrong_record, wrong_record
from components.core.record_metrics import (
    PHOTO,
    QUANTITY,
    QUANTITY_WITHOUT_PHOTO,
    RANDOM,
    SHARES,
    WHOLE,
    WHOLE_WITHOUT_PHOTO,
    CountingFigures,
    ErrorKindFigures,
    ErrorRateFigures,
    Flags,
    RankedList,
    Ranking,
    RecordFigures,
    SetFigures,
    Spread,
)

MIXTURE = "mixture"
FEWEST_BINS = 200  # ten wrong records at 5 %; below, nothing can be said
DRAWS = 20
RATES = (0.01, 0.05, 0.1)
_RESAMPLES = 10  # of the blocks, for every draw

Array = NDArray[np.float64]
Draw = Callable[[BinRecord, np.random.Generator], BinRecord | None]


@dataclass(frozen=True)
class HeldOut:
    """Held-out bins of every count: true records, what the photos say (N×(K+2)), and blocks that belong together."""

    records: Sequence[BinRecord]
    photo: Array
    blocks: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> "HeldOut":
        """The bins at these places."""
        return HeldOut([self.records[place] for place in places.tolist()], self.photo[places], self.blocks[places])


def judge_records(model: RecordModel, bins: HeldOut, seed: int) -> RecordFigures | None:
    """All figures of records; None where there are too few bins to say anything.

    Errors are drawn into bins whose products are listed; where no bin's are, the quantity alone is judged.
    """
    by_products = model.judge is not None
    if by_products:
        bins = bins.at(np.array([place for place, one in enumerate(bins.records) if one.products is not None], int))
    if len(bins.records) < FEWEST_BINS:
        return None
    lists = [record if by_products else _as_list(record) for record in bins.records]
    experiment = _Experiment(model, HeldOut(lists, bins.photo, bins.blocks), by_products, seed)
    mixed, right, wrong = experiment.rates()
    return RecordFigures(
        bins=len(bins.records),
        draws=DRAWS,
        error_rate=model.error_rate,
        kinds=(experiment.kind(MIXTURE), *(experiment.kind(kind) for kind in KINDS)),
        rates=mixed,
        recount_from=RECOUNT_FROM,
        recounts_of_right=right,
        recounts_of_wrong=wrong,
        counting=_counting(model, bins) if by_products else (),
        sets=_sets(model, bins),
    )


def _as_list(record: BinRecord) -> BinRecord:
    return BinRecord.of([Product(1)] * record.quantity)


class _Experiment:
    """Draws errors and ranks records; what is said of the right records is asked once for each error rate."""

    def __init__(self, model: RecordModel, bins: HeldOut, by_products: bool, seed: int) -> None:
        self._model, self._bins, self._by_products, self._seed = model, bins, by_products, seed
        self._pool = [product for record in bins.records for product in record.products or ()]
        self._members = [np.flatnonzero(bins.blocks == block) for block in np.unique(bins.blocks)]
        self._best = WHOLE if by_products else QUANTITY
        self._right = self._scores(np.arange(len(bins.records)), bins.records, None)

    def kind(self, kind: Kind | str) -> ErrorKindFigures:
        """Rankings of lists with errors of one kind, or of the mixture."""
        drawn: dict[str, list[RankedList]] = {name: [] for name in (*self._right, RANDOM)}
        resampled: dict[str, list[RankedList]] = {name: [] for name in drawn}
        wrong_records, unjudged = [], []
        for number in range(DRAWS):
            random = np.random.default_rng([self._seed, number])
            wrong, scores = self._draw(self._by_kind(kind), self._model.error_rate, random)
            scores[RANDOM] = random.random(len(wrong))
            wrong_records.append(wrong.sum())
            unjudged.append(np.isnan(scores[QUANTITY]).sum())
            for name, score in scores.items():
                drawn[name].append(RankedList.of(wrong, score, random))
            for _ in range(_RESAMPLES):
                blocks = random.integers(len(self._members), size=len(self._members))
                places = np.concatenate([self._members[block] for block in blocks])
                for name, score in scores.items():
                    resampled[name].append(RankedList.of(wrong[places], score[places], random))
        return ErrorKindFigures(
            kind=kind,
            wrong=float(np.mean(wrong_records)),
            unjudged=float(np.mean(unjudged)),
            rankings=tuple(_ranking(name, drawn[name], resampled[name]) for name in drawn),
        )

    def rates(self) -> tuple[tuple[ErrorRateFigures, ...], float, float]:
        """Figures of RATES with the model told, and which shares of right and wrong records it would have recounted.

        The last two are at the model's own rate.
        """
        figures = []
        for rate in RATES:
            right = self._scores(np.arange(len(self._bins.records)), self._bins.records, rate)
            figures.append(self._rate(rate, right))
        random = np.random.default_rng([self._seed, DRAWS])
        wrong = [
            (place, shown)
            for place, record in enumerate(self._bins.records)
            if (shown := self._by_kind(MIXTURE)(record, random)) is not None
        ]
        scores = self._scores(np.array([place for place, _ in wrong], int), [shown for _, shown in wrong], None)
        return tuple(figures), _recounted(self._right[self._best]), _recounted(scores[self._best])

    def _rate(self, rate: float, right: Mapping[str, Array]) -> ErrorRateFigures:
        name = self._best
        errors: dict[str, list[float]] = {"told": [], "constant": []}
        resampled: dict[str, list[float]] = {"told": [], "constant": []}
        expected, found = [], []
        for number in range(DRAWS):
            random = np.random.default_rng([self._seed, number])
            wrong, scores = self._draw(self._by_kind(MIXTURE), rate, random, right)
            score = scores[name]
            judged = ~np.isnan(score)
            sizes = np.bincount(self._bins.blocks[judged])
            chosen = random.integers(len(sizes), size=(_RESAMPLES, len(sizes)))
            for way, said in (("told", score[judged]), ("constant", np.full(judged.sum(), rate))):
                squares = (said - wrong[judged]) ** 2
                errors[way].append(float(squares.mean()))
                sums = np.bincount(self._bins.blocks[judged], squares)
                resampled[way] += (sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)).tolist()
            order = np.argsort(-np.where(judged, score, -np.inf), kind="stable")
            firsts = [order[: round(share * len(order))] for share in SHARES]
            expected.append([np.nansum(score[first]) for first in firsts])
            found.append([wrong[first].sum() for first in firsts])
        return ErrorRateFigures(
            rate=rate,
            brier=Spread.of(errors["told"], resampled["told"]),
            constant=Spread.of(errors["constant"], resampled["constant"]),
            expected=tuple(np.mean(expected, axis=0).tolist()),
            found=tuple(np.mean(found, axis=0).tolist()),
        )

    def _by_kind(self, kind: Kind | str) -> Draw:
        def draw(record: BinRecord, random: np.random.Generator) -> BinRecord | None:
            if kind == MIXTURE:
                drawn = draw_wrong_record(record, self._pool, self._model.max_count, random)
                return drawn[1] if drawn else None
            return wrong_record(record, kind, self._pool, self._model.max_count, random)  # type: ignore[arg-type]

        return draw

    def _draw(
        self, draw: Draw, rate: float, random: np.random.Generator, right: Mapping[str, Array] | None = None
    ) -> tuple[Flags, dict[str, Array]]:
        """Which records are wrong in this draw, and what every way to judge says of all records."""
        chosen = np.flatnonzero(random.random(len(self._bins.records)) < rate)
        shown = {place: draw(self._bins.records[place], random) for place in chosen.tolist()}
        made = {place: record for place, record in shown.items() if record is not None}
        places = np.array(list(made), int)
        wrong = np.zeros(len(self._bins.records), bool)
        wrong[places] = True
        scores = {name: score.copy() for name, score in (right or self._right).items()}
        told = None if right is None else rate
        for name, values in self._scores(places, list(made.values()), told).items():
            scores[name][places] = values
        return wrong, scores

    def _scores(self, places: NDArray[np.int64], records: Sequence[BinRecord], rate: float | None) -> dict[str, Array]:
        """Probabilities of a mismatch by every way to judge; NaN where a record cannot be judged."""
        model, photo = self._model, self._bins.photo[places]
        quantities = np.array([record.quantity for record in records], int)
        inside = np.flatnonzero(quantities <= model.max_count)
        rows, recorded = np.arange(len(inside)), quantities[inside]
        bare = [BinRecord(int(quantity)) for quantity in recorded]
        ways = {QUANTITY: (bare, 1.0), QUANTITY_WITHOUT_PHOTO: (bare, 0.0)}
        if self._by_products:
            whole = [records[place] for place in inside.tolist()]
            ways = {WHOLE: (whole, model.gamma), WHOLE_WITHOUT_PHOTO: (whole, 0.0), **ways}
        scores = {name: np.full(len(records), np.nan) for name in (*ways, PHOTO)}
        for name, (shown, gamma) in ways.items():
            classes = model.combine(photo[inside], model.given_records(shown, rate), gamma)
            scores[name][inside] = 1 - classes[rows, recorded]
        scores[PHOTO][inside] = 1 - photo[inside][rows, recorded]
        return scores


def _recounted(score: Array) -> float:
    """The share of all records that are recounted; what cannot be judged is not."""
    return float((np.nan_to_num(score, nan=-1.0) >= RECOUNT_FROM).mean())


def _ranking(name: str, drawn: Sequence[RankedList], resampled: Sequence[RankedList]) -> Ranking:
    def spread(of: Callable[[RankedList], float]) -> Spread:
        return Spread.of([of(one) for one in drawn], [of(one) for one in resampled])

    return Ranking(
        by=name,
        auc=spread(lambda one: one.auc),
        found=tuple(spread(lambda one, place=place: one.found[place]) for place in range(len(SHARES))),  # type: ignore[misc]
        half=spread(lambda one: one.half),
    )


def _counting(model: RecordModel, bins: HeldOut) -> tuple[CountingFigures, ...]:
    """The count of bins in range by the photo, by the list without quantities, and by both."""
    inside = np.flatnonzero([1 <= record.quantity <= model.max_count for record in bins.records])
    if not len(inside):
        return ()
    listed = [bins.records[place] for place in inside.tolist()]
    truth = np.array([record.quantity for record in listed])
    lists = np.array([model.given_list(record.products or ()) for record in listed])
    photo = bins.photo[inside]
    ways = {"photo": photo, "list of products": lists, "both": model.combine(photo, lists, model.lists_gamma)}
    counts = {name: classes[:, 1:-1].argmax(axis=1) + 1 for name, classes in ways.items()}
    return tuple(
        CountingFigures(
            by=name,
            accuracy=float((count == truth).mean()),
            rmse=float(np.sqrt(((count - truth) ** 2).mean())),
            lead=None if name == "both" else paired_interval(counts["both"] == truth, count == truth),
        )
        for name, count in counts.items()
    )


def _sets(model: RecordModel, bins: HeldOut) -> tuple[SetFigures, ...]:
    if model.sets is None:
        return ()
    truth = np.array([min(record.quantity, model.max_count + 1) for record in bins.records])
    figures = [_set_figures("photo", bins.photo, model.sets.photo, truth)]
    listed = [place for place, record in enumerate(bins.records) if record.products is not None]
    if model.sets.listed is not None and listed:
        lists = np.array([model.given_list(bins.records[place].products or ()) for place in listed])
        together = model.combine(bins.photo[listed], lists, model.lists_gamma)
        figures.append(_set_figures("photo and list of products", together, model.sets.listed, truth[listed]))
    return tuple(figures)


def _set_figures(by: str, classes: Array, most: float, truth: NDArray[np.int64]) -> SetFigures:
    sets = count_sets(classes, most)
    return SetFigures(
        by=by,
        bins=len(truth),
        coverage=float(((sets[:, 0] <= truth) & (truth <= sets[:, 1])).mean()),
        size=float((sets[:, 1] - sets[:, 0] + 1).mean()),
    )
