"""The rule of the split: who goes where, and who is left out so that nothing leaks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from components.core.errors import UserError
from components.core.records import block_of
from components.split.rule import BlockRule

# The subset earlier in this order keeps a bin's contents to itself; the later ones leave their copies out.
PRECEDENCE = ("test", "validation", "train")

SHARED = "same contents as a bin of {}"
NEAR_A_LIST = "in a block of ids that a given list touches"
SUBSET_GIVEN = "its block belongs to a subset that a given list fills"
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
    rule: BlockRule


def divide(records: pd.DataFrame, options: SplitOptions, given: Mapping[str, list[str]] | None = None) -> Division:
    """Divide the records (image_id, quantity, contents) into train, validation, test and extra.

    Blocks of neighbouring ids go as a whole where a hash of seed and block sends them. Bins of validation whose
    contents also stand in test, and bins of train whose contents stand in either, are left out. Ids on a given list go
    where the list says; subsets without a list are then drawn from blocks that no list touches, free of its contents.
    Raises UserError when a subset would be empty.
    """
    bins = records[["image_id", "quantity", "contents"]].sort_values("image_id", ignore_index=True)
    eligible = bins["quantity"].between(1, options.max_count)
    rule = _rule(options, int(eligible.sum()))
    blocks = [block_of(image_id) for image_id in bins["image_id"]]
    drawn = pd.Series([rule.subset(block) for block in blocks], index=bins.index)
    reasons = pd.Series("", index=bins.index)
    listed = pd.Series(False, index=bins.index)
    missing: list[str] = []
    if given:
        place = {image_id: subset for subset, ids in given.items() for image_id in ids}
        of_list = bins["image_id"].map(place)
        listed = of_list.notna()
        missing = sorted(place.keys() - set(bins["image_id"]))
        touched = {block for block, on_list in zip(blocks, listed, strict=True) if on_list}
        reasons[[block in touched for block in blocks]] = NEAR_A_LIST
        filled = drawn.isin(list(given))
        if "train" in given:
            reasons[filled & (reasons == "")] = SUBSET_GIVEN
        drawn[filled] = "train"
        drawn[listed] = of_list[listed]
        reasons[listed] = ""
    _leave_out_shared(bins["contents"], drawn, reasons, listed)
    kept = reasons == ""
    splits = bins[kept].assign(subset=drawn.where(eligible, "extra")[kept], block_subset=drawn[kept])
    _refuse_empty(splits, options.max_count)
    left_out = pd.DataFrame({"image_id": bins["image_id"], "reason": reasons})[~kept]
    unread = pd.DataFrame({"image_id": missing, "reason": [NOT_READ] * len(missing)}, dtype=object)
    return Division(
        splits.reset_index(drop=True),
        pd.concat([left_out, unread]).sort_values("image_id", ignore_index=True),
        rule,
    )


def _rule(options: SplitOptions, eligible: int) -> BlockRule:
    shares = [
        share if share < 1 else share / max(eligible, 1) for share in (options.validation_share, options.test_share)
    ]
    if any(share <= 0 for share in shares) or sum(shares) >= 1:
        raise UserError(
            f"VALIDATION_SHARE={options.validation_share:g} and TEST_SHARE={options.test_share:g} leave nothing for "
            f"one of the subsets of {eligible:,} bins; both must be above 0 and leave some for training."
        )
    return BlockRule(options.seed, *shares)


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


def _refuse_empty(splits: pd.DataFrame, max_count: int) -> None:
    sizes = Counter(splits["subset"])
    for subset in PRECEDENCE:
        if not sizes[subset]:
            raise UserError(
                f"The split leaves no bin with 1 to {max_count} items for {subset}; read more bins (LIMIT), "
                "choose another SEED or other shares, or shorten the given lists."
            )
