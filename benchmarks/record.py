"""Whether wrong records are found, on real photos over several seeds. `make bench-record`.

    python -m benchmarks.record --seeds 9 10 11              trains each, or takes what `make pipeline` has cached
    python -m benchmarks.record --metrics 9 metrics.json     adds a run that evaluate has judged already

Every run looked at its test blocks once. Errors are drawn as `components/evaluate/records.py` says; nothing of the true
record reaches a judge. Rows are added to results/record.json and the tables to results/record.md, with what
`python -m benchmarks.record_cost` measured.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, median

from pydantic import BaseModel

from benchmarks import accuracy
from benchmarks.machine import machine
from benchmarks.record_cost import COST_FILE, Cost
from benchmarks.tables import RESULTS, markdown_table, told, write_results
from components.core.metrics import Evaluation
from components.core.record_metrics import (
    FIRST_TENTH,
    QUANTITY,
    QUANTITY_WITHOUT_PHOTO,
    SHARES,
    WHOLE,
    WHOLE_WITHOUT_PHOTO,
    Ranking,
    RecordFigures,
    Spread,
)
from pipeline.local_store import HOME

MIXTURE, ONE_UNIT = "mixture", "one unit"
MOST_COST = 0.03


class Row(BaseModel):
    """One seed: where and when it was judged, and what was found."""

    seed: int
    machine: str
    day: str
    model_version: str
    accuracy: float
    records: RecordFigures
    note: str = ""  # on where the run comes from, for those who read the table


class _Goal(BaseModel):
    """A goal, what the mean of the seeds is, and by how much it may be off."""

    what: str
    goal: str
    result: str
    met: bool


def row_of(seed: int, metrics: Path, note: str = "") -> Row:
    """A row from metrics.json. Raises SystemExit for a model that knows nothing of records."""
    evaluation = Evaluation.model_validate_json(metrics.read_bytes())
    if evaluation.records is None:
        raise SystemExit(f"error: {metrics} has no figures of records; train with empty and full bins, on 200 or more")
    return Row(
        seed=seed,
        machine=machine(),
        day=date.today().isoformat(),
        model_version=evaluation.model_version,
        accuracy=evaluation.accuracy,
        records=evaluation.records,
        note=note,
    )


def table(rows: Sequence[Row]) -> list[str]:
    """The results for people, in Markdown."""
    first = rows[-1].records
    return [
        "# Wrong records among right ones, on real photos",
        "",
        f"`make bench-record`, recipe `finetune`, {rows[-1].machine}, {rows[-1].day}; "
        f"{', '.join(f'seed {row.seed} (version {row.model_version})' for row in rows)}.",
        f"Errors drawn into {first.error_rate:.0%} of the records of {first.bins:,} held-out bins of every count, "
        f"{first.draws} times; records beyond the",
        f"range ({first.kinds[0].unjudged:,.0f} on average) come last and stand in every share. In brackets: 95 % over "
        "draws and resampled blocks.",
        *(f"Seed {row.seed}: {row.note}" for row in rows if row.note),
        "",
        *markdown_table(
            ("goal", "asked for", "measured", ""), [(g.what, g.goal, g.result, told(g.met)) for g in goals(rows)]
        ),
        "",
        "Share of all wrong records found, mean of the seeds:",
        "",
        *markdown_table(
            ("errors", "in order of", "AUC:", *(f"first {share:.0%}:" for share in SHARES), "half found after:"),
            _found(rows),
        ),
        "",
        "Counting where the products are known, but not how many of each:",
        "",
        *markdown_table(("by", "right:", "RMSE:", "both are right oftener by"), _counting(rows)),
    ]


def goals(rows: Sequence[Row]) -> list[_Goal]:
    """The goals, each judged by the mean of the seeds."""
    whole, blind = _first(rows, MIXTURE, WHOLE), _first(rows, MIXTURE, WHOLE_WITHOUT_PHOTO)
    unit, quantity = _first(rows, ONE_UNIT, WHOLE), _first(rows, ONE_UNIT, QUANTITY)
    alone = _first(rows, ONE_UNIT, QUANTITY_WITHOUT_PHOTO)
    recounted = mean(row.records.recounts_of_right for row in rows)
    found = [
        _ratio("wrong records in the first 10 %: photo and whole record", "2.3 times random", whole, 0.1, 2.3),
        _ratio("the same, against the record without the photo", "1.25 times", whole, blind.mean, 1.25),
        _ratio("one unit wrong: photo and whole record", "2.2 times random", unit, 0.1, 2.2),
        _ratio("one unit wrong: photo and quantity, against quantity alone", "1.8 times", quantity, alone.mean, 1.8),
        *(_rate_goal(rows, place) for place in range(len(rows[0].records.rates))),
        _Goal(
            what=f"right records that are recounted, from {rows[0].records.recount_from:.0%} on",
            goal="at most 10 %",
            result=f"{recounted:.1%} (of the wrong ones {mean(row.records.recounts_of_wrong for row in rows):.1%})",
            met=recounted <= 0.1,
        ),
    ]
    return [*found, *_counting_goals(rows), *_set_goals(rows), *_cost_goal()]


def _ratio(what: str, goal: str, spread: Spread, of: float, least: float) -> _Goal:
    ratio = spread.mean / max(of, 1e-9)
    low, high = (end / max(of, 1e-9) for end in spread.interval)
    return _Goal(what=what, goal=f"≥ {goal}", result=f"{ratio:.2f} ({low:.2f} to {high:.2f})", met=ratio >= least)


def _rate_goal(rows: Sequence[Row], place: int) -> _Goal:
    rates = [row.records.rates[place] for row in rows]
    ours, constant = mean(one.brier.mean for one in rates), mean(one.constant.mean for one in rates)
    ratios = [
        mean(one.expected[share] for one in rates) / max(1e-9, mean(one.found[share] for one in rates))
        for share in range(len(SHARES))
    ]
    return _Goal(
        what=f"{rates[0].rate:.0%} wrong, and told so: squared error against a constant; expected against found "
        "in the first 5, 10, 20 %",
        goal="at most the constant's; within 20 %",
        result=f"{ours:.4f} against {constant:.4f}; {', '.join(f'{ratio:.2f}' for ratio in ratios)}",
        met=ours <= constant and all(0.8 <= ratio <= 1.2 for ratio in ratios),
    )


def _counting_goals(rows: Sequence[Row]) -> list[_Goal]:
    both = [one for row in rows for one in row.records.counting if one.by == "both"]
    leads = [one.lead for row in rows for one in row.records.counting if one.lead is not None]
    if not both:
        return []
    right, error = mean(one.accuracy for one in both), mean(one.rmse for one in both)
    return [
        _Goal(
            what="count given the products: right, RMSE",
            goal="≥ 53 %, ≤ 0.97",
            result=f"{right:.1%}, {error:.3f}",
            met=right >= 0.53 and error <= 0.97,
        ),
        _Goal(
            what="the same, ahead of photo alone and of list alone",
            goal="by more than the interval",
            result=f"by at least {min(low for low, _ in leads):+.1%}",
            met=min(low for low, _ in leads) > 0,
        ),
    ]


def _set_goals(rows: Sequence[Row]) -> list[_Goal]:
    names = [one.by for one in rows[0].records.sets]
    found = []
    for name in names:
        sets = [one for row in rows for one in row.records.sets if one.by == name]
        coverage, size = mean(one.coverage for one in sets), mean(one.size for one in sets)
        found.append(
            _Goal(
                what=f"sets at 90 %, {name}: they hold the true count",
                goal="87 to 93 %",
                result=f"{coverage:.1%}, {size:.2f} counts in one",
                met=0.87 <= coverage <= 0.93,
            )
        )
    return found


def _cost_goal() -> list[_Goal]:
    if not COST_FILE.exists():
        return []
    cost = Cost.model_validate_json(COST_FILE.read_bytes())
    without, told = median(cost.without), median(cost.with_record)
    return [
        _Goal(
            what="cost of a record in the endpoint",
            goal="at most 3 % of requests/s",
            result=f"{cost.cost:.1%}: {told:.0f}/s with a record, {without:.0f}/s without ({cost.day})",
            met=cost.cost <= MOST_COST,
        )
    ]


def _first(rows: Sequence[Row], kind: str, by: str) -> Spread:
    return _mean([one.found[FIRST_TENTH] for row in rows for one in _rankings(row, kind) if one.by == by])


def _rankings(row: Row, kind: str) -> Sequence[Ranking]:
    return next(one.rankings for one in row.records.kinds if one.kind == kind)


def _mean(spreads: Sequence[Spread]) -> Spread:
    def of(value: Callable[[Spread], float]) -> float:
        return mean(value(one) for one in spreads)

    return Spread(
        mean=of(lambda one: one.mean),
        deviation=of(lambda one: one.deviation),
        interval=(of(lambda one: one.interval[0]), of(lambda one: one.interval[1])),
    )


def _found(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    lines = []
    for kind in (one.kind for one in rows[0].records.kinds):
        for place, by in enumerate(one.by for one in _rankings(rows[0], kind)):
            group = [_rankings(row, kind)[place] for row in rows]
            found = [_mean([one.found[share] for one in group]) for share in range(len(SHARES))]
            lines.append(
                (
                    kind,
                    by,
                    f"{mean(one.auc.mean for one in group):.3f}",
                    *(f"{one.mean:.1%} ({one.interval[0]:.0%} to {one.interval[1]:.0%})" for one in found),
                    f"{mean(one.half.mean for one in group):.0%}",
                )
            )
    return lines


def _counting(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.by}, seed {row.seed}",
            f"{one.accuracy:.1%}",
            f"{one.rmse:.3f}",
            "" if one.lead is None else f"{one.lead[0]:+.1%} to {one.lead[1]:+.1%}",
        )
        for row in rows
        for one in row.records.counting
    ]


def main() -> None:
    """Judge the seeds, writing the tables after each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default=accuracy.SAMPLE, help="a folder of real bins")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--metrics", nargs=2, metavar=("SEED", "FILE"), help="a run that was judged already")
    parser.add_argument("--note", default="", help="on where the run of --metrics comes from, a sentence")
    parser.add_argument("--home", type=Path, default=HOME / "accuracy", help="where the runs keep their state")
    given = parser.parse_args()
    path = RESULTS / "record.json"
    rows = [Row.model_validate(row) for row in json.loads(path.read_text())] if path.exists() else []
    judged = [(int(given.metrics[0]), Path(given.metrics[1]))] if given.metrics else []
    for seed in given.seeds or ([] if judged else [9, 10, 11]):
        accuracy.run("finetune", [f"SOURCE={given.source}", "RECIPE=finetune"], seed, given.home.resolve())
        judged.append((seed, given.home.resolve() / "latest" / "metrics.json"))
    for seed, metrics in judged:
        rows = sorted(
            [*(old for old in rows if old.seed != seed), row_of(seed, metrics, given.note)], key=lambda row: row.seed
        )
        write_results("record", [row.model_dump(mode="json") for row in rows], table(rows))


if __name__ == "__main__":
    main()
