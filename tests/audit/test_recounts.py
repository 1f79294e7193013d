"""Recounts come back: what is taken, what is kept, and how often records are wrong by them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from components.audit.rank import Terms, recount_list
from components.audit.recounts import estimate, known, read_recounts
from components.core.errors import UserError
from components.core.recounts import Recount, keep, kept
from components.core.store import open_store
from pipeline.local_store import RunningStore

HEADER = "rank,file,recorded,probability,why,chance,counted,by\n"


def filled(folder: Path, *rows: str) -> Path:
    path = folder / "recount.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_what_was_counted_is_taken_and_what_was_not_is_passed_over(tmp_path: Path) -> None:
    rows = ("1,a.jpg,3,0.4,ranked,1.0,2,Ann", "2,b.jpg,3,0.3,ranked,1.0,,", "3,'=c.jpg,1,,random,0.1,1,")
    recounts, refused = read_recounts(filled(tmp_path, *rows))
    assert [(one.file, one.recorded, one.counted, one.wrong, one.by) for one in recounts] == [
        ("a.jpg", 3, 2, True, "Ann"),
        ("=c.jpg", 1, 1, False, ""),
    ]
    assert refused == []


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,a.jpg,3,0.4,ranked,1.0,two,", "its column counted is 'two'"),
        ("1,a.jpg,3,0.4,ranked,1.0,-1,", "its column counted is '-1'"),
        ("1,a.jpg,3,0.4,guess,1.0,2,", "neither ranked nor random"),
        ("1,a.jpg,3,0.4,ranked,0,2,", "no share between 0 and 1"),
        ("1,z.jpg,3,0.4,ranked,1.0,2,", "counted twice, as 3 and as 2"),
    ],
)
def test_a_recount_that_cannot_be_used_is_told(tmp_path: Path, row: str, problem: str) -> None:
    recounts, [(_, told)] = read_recounts(filled(tmp_path, "9,z.jpg,3,0.1,ranked,1.0,3,", row))
    assert [one.file for one in recounts] == ["z.jpg"]
    assert problem in told


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1,a.jpg,3,0.4,ranked,1.0,,"], "holds no recount"),
        (["1,a.jpg,3,0.4,ranked,1.0,2,", "2,b.jpg,3,,random,0.1,,"], "1 bins of recount.csv that were drawn at random"),
    ],
)
def test_a_list_that_was_not_counted_enough_is_refused(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_recounts(filled(tmp_path, *rows))


def test_recounts_are_kept_for_good_and_once(store_environment: RunningStore) -> None:
    store = open_store(f"s3://bin-counter/{uuid4().hex}")
    first = [Recount("a.jpg", 3, 2, "ranked", 1.0, 0.4, by="Ann")]
    second = [Recount("b.jpg", 1, 1, "random", 0.1, None)]
    for number, recounts in enumerate((first, second, first)):
        keep(store, recounts, datetime(2026, 11, 1 + number, tzinfo=UTC))
    assert list(kept(store)) == [first, second]


def test_what_somebody_else_put_there_is_one_sentence(store_environment: RunningStore) -> None:
    store = open_store(f"s3://bin-counter/{uuid4().hex}")
    store.put("recounts/notes.parquet", b"three bins were empty")
    with pytest.raises(UserError, match=r"recounts/notes\.parquet .* holds no recounts that can be read; remove"):
        list(kept(store))


def test_ranked_recounts_alone_say_nothing_of_all_records() -> None:
    assert estimate([[Recount("a.jpg", 3, 2, "ranked", 1.0, 0.9)]]) is None


def test_a_list_that_is_given_again_filled_in_further_or_with_moves_counts_once() -> None:
    ranked = [Recount(f"{place}.jpg", 3, 2, "ranked", 1.0, 0.5 + place / 100) for place in range(3)]
    random = [Recount(f"r{place}.jpg", 3, 3, "random", 0.1, 0.05) for place in range(20)]
    labels = [replace(one, is_label=True) for one in (*ranked, *random)]
    once = estimate([[*ranked, *random]])
    assert once is not None
    assert estimate([[*ranked[:1], *random], [*ranked, *random]]) == once
    assert estimate([[*ranked, *random], labels]) == once
    assert estimate([[*ranked, *random], [replace(one, chance=0.2) for one in random]]) != once  # another audit's


def test_a_site_with_enough_random_recounts_goes_by_its_own_share_and_others_by_that_of_all() -> None:
    def random(site: str, number: int, wrong: int) -> list[Recount]:
        return [
            Recount(f"{site}{place}.jpg", 3, 2 if place < wrong else 3, "random", 0.1, 0.05, site=site)
            for place in range(number)
        ]

    found = known([[*random("North", 40, 8), *random("South", 40, 0), *random("East", 5, 5)]])
    assert found is not None
    assert set(found.by_site) == {"North", "South"}
    assert found.share_at("North") == pytest.approx(0.2)
    assert found.share_at("South") == pytest.approx(0.001)  # none were found wrong, which does not say that none is
    assert found.share_at("East") == found.share_at("") == pytest.approx(13 / 85)
    assert "By site: North 20.0%" in str(found)
    assert known([random("North", 5, 1)]) is not None
    assert known([random("North", 5, 1)]).share_at("North") is None  # type: ignore[union-attr]


def test_the_share_of_wrong_records_is_found_although_ranked_ones_are_mostly_wrong() -> None:
    """Twenty warehouses whose lists find many wrong records first; the truth lies in the interval, as it should."""
    inside, told = 0, []
    for seed in range(20):
        random = np.random.default_rng(seed)
        wrong = random.random(3000) < 0.06
        score = np.clip(random.normal(0.05 + 0.15 * wrong, 0.05), 0.001, 0.99)
        recorded = random.integers(1, 6, 3000)
        bins = pd.DataFrame(
            {"file": [f"{place}.jpg" for place in range(3000)], "probability": score, "value": 1.0}
            | {"recorded": recorded, "likeliest": recorded}
        )
        listed = recount_list(bins, Terms(budget=300, seed=seed))
        truth = dict(zip(bins["file"], wrong, strict=True))
        recounts = [
            Recount(row["file"], row["recorded"], row["recorded"] + truth[row["file"]], row["why"], row["chance"], 0.1)
            for row in listed.to_dict("records")
        ]
        assert np.mean([one.wrong for one in recounts if one.why == "ranked"]) > 0.2
        found = estimate([recounts])
        assert found is not None
        assert found.is_enough
        told.append(found.share)
        inside += found.interval[0] <= wrong.mean() <= found.interval[1]
    assert inside >= 18
    assert np.mean(told) == pytest.approx(0.06, abs=0.02)
