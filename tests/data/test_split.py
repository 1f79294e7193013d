import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import UserError
from components.core.records import Block, block_of, read_splits
from components.split.divide import SplitOptions, divide
from components.split.file_lists import read_file_lists, write_file_lists
from components.split.leaks import check_leaks
from components.split.rule import HashRule
from tests.data.world import World

IDS = st.integers(0, 999_999).flatmap(lambda number: st.sampled_from([f"{number:05d}", str(number)]))


def bins(ids: Iterable[str], contents: list[str] | None = None, quantity: list[int] | None = None) -> pd.DataFrame:
    ids = list(ids)
    return pd.DataFrame(
        {
            "image_id": ids,
            "quantity": [int(image_id) % 8 for image_id in ids] if quantity is None else quantity,
            "contents": [""] * len(ids) if contents is None else contents,
            "product_list": "",
        }
    )


def dense(count: int, start: int = 0) -> list[str]:
    return [f"{number:05d}" for number in range(start, start + count)]


def places(records: pd.DataFrame, **options: Any) -> dict[str, str]:
    splits = divide(records, SplitOptions(**options)).splits
    return dict(zip(splits["image_id"], splits["block_subset"], strict=True))


def drawn_contents(count: int, draw: Random) -> list[str]:
    return draw.choices(["", *map(str, range(count))], k=count)


@settings(max_examples=50, deadline=None)
@given(st.sets(IDS, max_size=200), st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_adding_bins_never_moves_a_bin(added: set[str], seed: int, draw: Random) -> None:
    old = bins(dense(400), contents=drawn_contents(400, draw))
    new_ids = sorted(added - set(old["image_id"]))
    new = bins(new_ids, contents=drawn_contents(len(new_ids), draw))
    before, after = places(old, seed=seed), places(pd.concat([old, new]), seed=seed)
    assert all(after[image_id] == before[image_id] for image_id in before.keys() & after.keys())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_no_contents_stand_on_two_sides(seed: int, draw: Random) -> None:
    division = divide(bins(dense(300), drawn_contents(300, draw)), SplitOptions(seed=seed))
    assert set(check_leaks(division.splits).shared_contents.values()) == {0}
    # Nothing vanishes: every bin is in the split or among those left out, and no test bin is ever left out.
    assert len(division.splits) + len(division.left_out) == 300
    assert not division.left_out["reason"].str.contains("bin of train").any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sets(IDS, max_size=60))
def test_no_bin_lies_beside_one_of_another_subset(seed: int, others: set[str]) -> None:
    division = divide(bins(sorted({*dense(300), *others})), SplitOptions(seed=seed))
    assert set(check_leaks(division.splits).neighbours.values()) == {0}
    reasons = set(division.left_out["reason"])
    assert reasons <= {"at most 2 ids from a block of test", "at most 2 ids from a block of validation"}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(60, 120), st.integers(0, 50))
def test_sixty_bins_are_divided_whatever_the_seed(seed: int, count: int, start: int) -> None:
    splits = divide(bins(dense(count, start)), SplitOptions(seed=seed)).splits
    assert set(splits["subset"]) == {"train", "validation", "test", "extra"}
    assert set(check_leaks(splits).neighbours.values()) == {0}


def test_groups_stay_together_and_have_no_neighbours() -> None:
    records = bins(dense(400)).assign(group=[f"pod {number % 37}" for number in range(400)])
    division = divide(records, SplitOptions())
    sides = division.splits.assign(group=records.set_index("image_id")["group"].loc[division.splits["image_id"]].values)
    assert sides.groupby("group")["block_subset"].nunique().max() == 1
    assert division.left_out.empty


def test_bins_without_a_group_go_by_their_blocks() -> None:
    plain = bins(dense(400))
    mixed = plain.assign(group=["pod" if number < 3 else "" for number in range(400)])
    before, after = (divide(each, SplitOptions()).splits.set_index("image_id")["subset"] for each in (plain, mixed))
    assert before[dense(300, 100)[0] :].equals(after[dense(300, 100)[0] :])


@settings(max_examples=30, deadline=None)
@given(st.permutations(dense(200)), st.integers(0, 100))
def test_the_order_of_the_records_does_not_matter(ids: list[str], seed: int) -> None:
    pd.testing.assert_frame_equal(
        divide(bins(ids), SplitOptions(seed=seed)).splits, divide(bins(dense(200)), SplitOptions(seed=seed)).splits
    )


def test_neighbours_stay_together() -> None:
    split = places(bins(dense(1000)))
    by_block: dict[Block, set[str]] = {block_of(image_id): set() for image_id in split}
    for image_id, subset in split.items():
        by_block[block_of(image_id)].add(subset)
    assert all(len(subsets) == 1 for subsets in by_block.values())


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.2), (0.05, 0.05), (0.15, 0.33)])
def test_subsets_get_their_shares(validation: float, test: float) -> None:
    rule = HashRule(7, validation, test)
    subsets = Counter(rule.subset(block_of(image_id)) for image_id in dense(99_999))
    assert subsets["validation"] / 99_999 == pytest.approx(validation, abs=0.005)
    assert subsets["test"] / 99_999 == pytest.approx(test, abs=0.005)


def test_seeds_differ() -> None:
    assert places(bins(dense(400)), seed=1) != places(bins(dense(400)), seed=2)


def test_a_size_of_one_or_more_is_a_number_of_bins() -> None:
    splits = divide(
        bins(dense(20_000), quantity=[3] * 20_000), SplitOptions(validation_share=2000, test_share=3000)
    ).splits
    sizes = Counter(splits["subset"])
    assert sizes["validation"] == pytest.approx(2000, rel=0.1)
    assert sizes["test"] == pytest.approx(3000, rel=0.1)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.5, 0.5), (0.1, 5000)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[Any, ...]) -> None:
    with pytest.raises(UserError, match="both must be above 0"):
        divide(bins(dense(400)), SplitOptions(validation_share=shares[0], test_share=shares[1]))


def test_too_few_blocks_are_refused_with_what_is_missing() -> None:
    with pytest.raises(UserError, match="The 13 bins with 1 to 5 items lie in only 1 of the units"):
        divide(bins(dense(20)), SplitOptions())


def test_bins_that_all_share_contents_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match="because its bins share contents with"):
        divide(bins(dense(60), contents=["same"] * 60), SplitOptions())


def test_bins_outside_the_range_are_extra_and_keep_their_side() -> None:
    splits = divide(bins(dense(400)), SplitOptions(max_count=5)).splits
    extra = splits[splits["subset"] == "extra"]
    assert set(extra["quantity"]) == {0, 6, 7}
    assert set(extra["block_subset"]) == {"train", "validation", "test"}
    inside = splits[splits["subset"] != "extra"]
    assert (inside["subset"] == inside["block_subset"]).all()


def test_extra_bins_do_not_leak_either() -> None:
    records = bins(dense(400), contents=["full"] * 400, quantity=[9 if number % 2 else 3 for number in range(400)])
    splits = divide(
        records.assign(contents=["full" if q == 9 else "" for q in records["quantity"]]), SplitOptions()
    ).splits
    assert set(splits["block_subset"][splits["subset"] == "extra"]) == {"test"}


def test_the_leak_check_counts_what_stands_on_both_sides() -> None:
    splits = pd.DataFrame(
        {
            "image_id": ["00001", "00002", "00003", "2", "00010"],
            "contents": ["a", "b", "a", "b", ""],
            "product_list": "",
            "block_subset": ["train", "test", "test", "validation", "train"],
        }
    )
    leaks = check_leaks(splits)
    assert leaks.shared_contents == {"train-validation": 0, "train-test": 1, "validation-test": 1}
    assert leaks.neighbours == {"train-validation": 0, "train-test": 2, "validation-test": 0}


# File lists


def listed(folder: Path, name: str, by_label: Mapping[Any, Iterable[str]]) -> str:
    folder.mkdir(exist_ok=True)
    entries = {label: [f"data/metadata/{image_id}.json" for image_id in ids] for label, ids in by_label.items()}
    (folder / f"{name}.json").write_text(json.dumps(entries))
    return str(folder / f"{name}.json")


def test_lists_are_written_in_the_originals_form_and_read_back(tmp_path: Path) -> None:
    splits = divide(bins(dense(400)), SplitOptions()).splits
    write_file_lists(tmp_path, splits)
    train = json.loads((tmp_path / "train.json").read_text())
    assert list(train) == ["1", "2", "3", "4", "5"]
    assert train["1"][0].startswith("data/metadata/0")
    given_back = divide(bins(dense(400)), SplitOptions(seed=99), read_file_lists(str(tmp_path))).splits
    chosen = splits["subset"] != "extra"
    assert dict(zip(given_back["image_id"], given_back["subset"], strict=True)) == dict(
        zip(splits["image_id"][chosen], splits["subset"][chosen], strict=True)
    )


def test_a_training_list_is_honoured_and_the_rest_drawn_elsewhere(tmp_path: Path) -> None:
    records = bins(dense(800), contents=[f"c{number % 390}" for number in range(800)], quantity=[3] * 800)
    chosen = dense(200)
    given_lists = read_file_lists(listed(tmp_path, "mine", {"3": [*chosen, "99999"]}))
    division = divide(records, SplitOptions(), given_lists)
    of = division.splits.groupby("subset")["image_id"].agg(set)
    assert of["train"] == set(chosen)
    assert min(of["validation"] | of["test"]) >= "00200"
    assert set(check_leaks(division.splits).shared_contents.values()) == {0}
    reasons = dict(zip(division.left_out["image_id"], division.left_out["reason"], strict=True))
    assert reasons["99999"] == "on a given list, but not among the records"
    assert len(division.splits) + len(division.left_out) == 801


def test_three_given_lists_are_the_split(tmp_path: Path) -> None:
    by_subset = {"train": dense(30), "validation": dense(5, 30), "test": dense(5, 35)}
    for subset, ids in by_subset.items():
        listed(tmp_path, subset, {"3": ids})
    records = bins(dense(60), contents=["same"] * 60, quantity=[3] * 60)
    splits = divide(records, SplitOptions(), read_file_lists(str(tmp_path))).splits
    assert {subset: sorted(splits["image_id"][splits["subset"] == subset]) for subset in by_subset} == by_subset
    assert check_leaks(splits).shared_contents["train-test"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[]", "is not of the form"),
        ('{"1": ["data/metadata/abc.json"]}', "names 'data/metadata/abc.json'"),
        ('{"1": [7]}', "which is no metadata file"),
        ('{"1": ["a/1.json"], "2": ["b/1.json"]}', "The bin 1 stands twice in the train list"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(UserError, match=said):
        read_file_lists(str(tmp_path / "list.json"))


def test_lists_that_are_nowhere_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file list at"):
        read_file_lists(str(tmp_path / "list.json"))
    with pytest.raises(UserError, match=r"no train\.json"):
        read_file_lists(str(tmp_path))


def test_the_step_writes_all_of_its_outputs(world: World) -> None:
    world.fill(220, photos=False)
    world.ingest()
    world.split()
    splits = read_splits(world.path("splits"))
    left_out = pd.read_csv(world.path("lists") / "left_out.csv", dtype=str)
    assert sorted([*splits["image_id"], *left_out["image_id"]]) == [f"{number:05d}" for number in range(1, 221)]
    names = {path.name for path in world.path("lists").iterdir()}
    assert names == {"train.json", "validation.json", "test.json", "left_out.csv", "leaks.json"}
    assert "Leak check" in world.path("split.html").read_text()
    first = world.results()
    world.split()
    assert world.results() == first


def test_numbers_of_bins_are_told_as_shares_that_keep_bins_still(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fill(220, photos=False)
    world.ingest()
    world.split(validation_share=20, test_share=40)
    said = capsys.readouterr().out
    told = {name: float(share) for name, share in re.findall(r"(\w+_SHARE)=([\d.]+)", said)[:2]}
    first = read_splits(world.path("splits")).set_index("image_id")["block_subset"]
    world.fill(100, start=221, photos=False)
    world.ingest()
    world.split(validation_share=told["VALIDATION_SHARE"], test_share=told["TEST_SHARE"])
    grown = read_splits(world.path("splits")).set_index("image_id")["block_subset"]
    assert grown[first.index].equals(first)
    assert "turned into shares" not in capsys.readouterr().out


def test_the_originals_list_covers_the_sample(world: World, sample: Path) -> None:
    ids = read_file_lists(str(sample / "file_list.json"))["train"]
    assert len(ids) == 10_441
