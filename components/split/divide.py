"""The rule of the split: who goes where, and who is left out so that nothing leaks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from components.core.errors import UserError
from components.core.records import BLOCK_SIZE, Block, block_of
from components.split.leaks import NEAR
from components.split.rule import HashRule, RankedRule, Rule, Unit, ranked

# The subset earlier in this order keeps a bin's contents to itself; the later ones leave their copies out.
PRECEDENCE = ("test", "validation", "train")

SHARED = "same contents as a bin of {}"
EDGE = f"at most {NEAR} ids from a block of {{}}"
NEAR_A_LIST = "in a block of ids that a given list touches"
SUBSET_GIVEN = "its block belongs to a subset that a given list fills"
_ATTEMPTS = 50
NOT_READ = "on a given list, but not among the records"


@dataclass(frozen=True)
class SplitOptions:
    """How to divide. A share of 1 or more is a number of bins."""

    max_count: int = 5
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.2


@dataclass(frozen=True)
class Division:
    """The split (columns as in SPLITS_SCHEMA), what it leaves out (image_id, reason), both by id, and the rule used."""

    splits: pd.DataFrame
    left_out: pd.DataFrame
    rule: Rule

    @property
    def ranked(self) -> bool:
        """Whether units were ranked, so that new bins may move others."""
        return isinstance(self.rule, RankedRule)


def divide(records: pd.DataFrame, options: SplitOptions, given: Mapping[str, list[str]] | None = None) -> Division:
    """Divide the records (columns image_id, quantity, contents, product_list and, where known, group) into subsets.

    Blocks of neighbouring ids go as a whole where a hash of seed and block sends them, groups likewise. Bins of
    validation whose contents also stand in test, and bins of train whose contents stand in either, are left out, and so
    are bins at most NEAR ids from a block that goes to such a subset. Ids on a given list go where the list says;
    subsets without a list are then drawn from blocks that no list touches, free of its contents. Where the hash would
    leave a subset of few units empty, units are ranked instead. Raises UserError when no way gives each subset a bin.
    """
    known = (name for name in ("group", "file", "product_list") if name in records)
    columns = ["image_id", "quantity", "contents", *known]
    bins = records[columns].sort_values("image_id", ignore_index=True)
    eligible = bins["quantity"].between(1, options.max_count)
    units = _units(bins)
    rule = _rule(options, int(eligible.sum()))
    division = _divide_by(rule, bins, units, eligible, given or {})
    if not _empty(division.splits) or given:
        _refuse_empty(division.splits, options.max_count)
        return division
    sizes = Counter(unit for unit, counts in zip(units, eligible, strict=True) if counts)
    if len(sizes) < len(PRECEDENCE):
        raise UserError(
            f"The {int(eligible.sum())} bins with 1 to {options.max_count} items lie in only {len(sizes)} of the units "
            f"that are divided (blocks of {BLOCK_SIZE} neighbouring ids, or groups), and {len(PRECEDENCE)} are needed, "
            f"one for each of {', '.join(PRECEDENCE)}; read more bins (LIMIT)."
        )
    for attempt in range(_ATTEMPTS):
        division = _divide_by(ranked(rule, sizes, attempt), bins, units, eligible, {})
        if not _empty(division.splits):
            return division
    _refuse_empty(division.splits, options.max_count)
    return division


def _units(bins: pd.DataFrame) -> list[Unit]:
    """What each bin is divided with: its group, else its block."""
    groups = bins["group"].fillna("") if "group" in bins else [""] * len(bins)
    return [group or block_of(image_id) for image_id, group in zip(bins["image_id"], groups, strict=True)]


def _divide_by(
    rule: Rule, bins: pd.DataFrame, units: Sequence[Unit], eligible: pd.Series, given: Mapping[str, list[str]]
) -> Division:
    drawn = pd.Series([rule.subset(unit) for unit in units], index=bins.index, dtype=object)
    reasons = pd.Series("", index=bins.index, dtype=object)
    place = {image_id: subset for subset, ids in given.items() for image_id in ids}
    of_list = bins["image_id"].map(place)
    listed = of_list.notna()
    touched = {unit for unit, on_list in zip(units, listed, strict=True) if on_list}
    if given:
        reasons[[unit in touched for unit in units]] = NEAR_A_LIST
        filled = drawn.isin(list(given))
        if "train" in given:
            reasons[filled & (reasons == "")] = SUBSET_GIVEN
        drawn[filled] = "train"
        drawn[listed] = of_list[listed]
        reasons[listed] = ""
    _leave_out_edges(bins["image_id"], units, drawn, reasons, listed, rule, place)
    _leave_out_shared(bins["contents"], drawn, reasons, listed)
    kept = reasons == ""
    splits = bins.loc[kept, [name for name in bins if name != "group"]].assign(
        subset=drawn.where(eligible, "extra")[kept], block_subset=drawn[kept]
    )
    missing = sorted(place.keys() - set(bins["image_id"]))
    left_out = pd.DataFrame({"image_id": bins["image_id"], "reason": reasons})[~kept]
    unread = pd.DataFrame({"image_id": missing, "reason": [NOT_READ] * len(missing)}, dtype=object)
    return Division(
        splits.reset_index(drop=True),
        pd.concat([left_out, unread]).sort_values("image_id", ignore_index=True),
        rule,
    )


def _rule(options: SplitOptions, eligible: int) -> HashRule:
    shares = [
        share if share < 1 else share / max(eligible, 1) for share in (options.validation_share, options.test_share)
    ]
    if any(share <= 0 for share in shares) or sum(shares) >= 1:
        raise UserError(
            f"VALIDATION_SHARE={options.validation_share:g} and TEST_SHARE={options.test_share:g} leave nothing for "
            f"one of the subsets of {eligible:,} bins; both must be above 0 and leave some for training."
        )
    return HashRule(options.seed, *shares)


def _leave_out_edges(
    image_ids: pd.Series,
    units: Sequence[Unit],
    drawn: pd.Series,
    reasons: pd.Series,
    listed: pd.Series,
    rule: Rule,
    place: Mapping[str, str],
) -> None:
    """Give a reason to every bin at most NEAR ids from a place that belongs to a subset which goes before its own.

    Whether a bin is read there does not matter, so that new bins still move nobody. Groups have no neighbours, and bins
    of given lists stay.
    """
    for row, (image_id, unit) in enumerate(zip(image_ids, units, strict=True)):
        if isinstance(unit, str) or listed[row] or reasons[row]:
            continue
        number = int(image_id)
        for neighbour in range(number - NEAR, number + NEAR + 1):
            block = Block(unit.padded, neighbour // BLOCK_SIZE)
            if block == unit or neighbour < 0:
                continue
            subset = place.get(f"{neighbour:05d}" if unit.padded else str(neighbour))
            if subset is None and not place:
                subset = rule.subset(block)
            if subset is not None and PRECEDENCE.index(subset) < PRECEDENCE.index(drawn[row]):
                reasons[row] = EDGE.format(subset)
                break


def _leave_out_shared(contents: pd.Series, drawn: pd.Series, reasons: pd.Series, listed: pd.Series) -> None:
    """Give a reason to every bin whose contents belong to a subset that goes before its own.

    Empty or unknown contents are nobody's. Bins of given lists stay whatever they share, and go before all others.
    """
    known = contents != ""
    owner: dict[str, str] = {}
    for of_list in (True, False):
        for subset in PRECEDENCE:
            chosen = known & (listed == of_list) & (drawn == subset) & (reasons == "")
            if not of_list:
                for other in PRECEDENCE:
                    shared = chosen & (contents.map(owner) == other)
                    if other != subset:
                        reasons[shared] = SHARED.format(other)
                        chosen &= ~shared
            for content in contents[chosen].unique():
                owner.setdefault(content, subset)


def _empty(splits: pd.DataFrame) -> list[str]:
    sizes = Counter(splits["subset"])
    return [subset for subset in PRECEDENCE if not sizes[subset]]


def _refuse_empty(splits: pd.DataFrame, max_count: int) -> None:
    for subset in _empty(splits):
        raise UserError(
            f"The split leaves no bin with 1 to {max_count} items for {subset}, because its bins share contents with "
            "those of other subsets or lie beside them; read more bins (LIMIT), choose other shares, or shorten the "
            "given lists."
        )
