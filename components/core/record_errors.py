"""How records go wrong: drawn errors, to learn from and to judge by.

An error is an edit of (product, quantity) pairs. A product that reaches 0 leaves the list, and the recorded quantity is
always the sum of what is listed, so that no made record is impossible by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from components.core.contents import BinRecord, Product

Kind = Literal["one unit", "a product missing", "a product that does not belong", "another count"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Of wrong records, until recounts say otherwise. Miscounting by one is what people report most; the rest is even.
SHARES: Mapping[Kind, float] = {
    "one unit": 0.4,
    "a product missing": 0.2,
    "a product that does not belong": 0.2,
    "another count": 0.2,
}
ERROR_RATE = 0.05  # of all records, likewise


def wrong_record(
    truth: BinRecord, kind: Kind, pool: Sequence[Product], most: int, random: np.random.Generator
) -> BinRecord | None:
    """A record of `truth` with an error, whose quantity is not the true one; None where this kind cannot befall it.

    Products that do not belong are drawn from `pool`; another count is one of 1…`most`. `truth` must list products.
    """
    assert truth.products is not None
    products = list(truth.products)
    if kind == "one unit":
        return _one_unit(products, random)
    if kind == "a product missing":
        if not products:
            return None
        del products[random.integers(len(products))]
        return BinRecord.of(products)
    if kind == "a product that does not belong":
        return BinRecord.of([*products, pool[int(random.integers(len(pool)))]])
    return _another_count(products, truth.quantity, most, random)


def each_wrong_record(
    truth: BinRecord, pool: Sequence[Product], most: int, random: np.random.Generator
) -> list[tuple[Kind, BinRecord, float]]:
    """An error of every kind that can befall the bin, each with its share of this bin's errors; they sum to 1."""
    made = [(kind, wrong_record(truth, kind, pool, most, random)) for kind in KINDS]
    possible = [(kind, record, SHARES[kind]) for kind, record in made if record is not None]
    total = sum(share for _, _, share in possible)
    return [(kind, record, share / total) for kind, record, share in possible]


def draw_wrong_record(
    truth: BinRecord, pool: Sequence[Product], most: int, random: np.random.Generator
) -> tuple[Kind, BinRecord] | None:
    """One error, of a kind drawn by the shares of those that can befall the bin; None where none can."""
    errors = each_wrong_record(truth, pool, most, random)
    if not errors:
        return None
    kind, record, _ = errors[random.choice(len(errors), p=[share for _, _, share in errors])]
    return kind, record


def _one_unit(products: list[Product], random: np.random.Generator) -> BinRecord | None:
    if not products:
        return None
    place = random.integers(len(products))
    step = 1 if random.random() < 0.5 else -1
    products[place] = replace(products[place], quantity=products[place].quantity + step)
    return BinRecord.of(products)


def _another_count(products: list[Product], quantity: int, most: int, random: np.random.Generator) -> BinRecord | None:
    others = [count for count in range(1, most + 1) if count != quantity]
    if not products or not others:
        return None
    missing = others[random.integers(len(others))] - quantity
    while missing:
        place = random.integers(len(products))
        if products[place].quantity:
            step = int(np.sign(missing))
            products[place] = replace(products[place], quantity=products[place].quantity + step)
            missing -= step
    return BinRecord.of(products)
