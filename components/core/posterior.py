"""Does the bin hold what its record says? The photo and the record together, as one probability.

With c what is in the bin (0, 1…K, more), x the photo and R the record:

    p(c | x, R) ∝ [p(c | x) / π(c)]^gamma · p(c | R)

π is the mean of the calibrated p(c | x) over bins of every count, so the quotient is what the photo adds to what bins
hold anyway. p(c | R) says how records go wrong: a share ε of them does, in the ways of `record_errors`. Where the
products are listed, a small network that read such records judges this one; else a table does, by the quantity alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from components.core.bundle import Bundle
from components.core.contents import BinRecord, Product
from components.core.count_sets import SetThresholds
from components.core.stored import Stored

RECORD_FILE = "record.json"  # in a bundle
# A recount pays from here on where a wrong record costs as much as ten recounts; twice what records are wrong anyway.
RECOUNT_FROM = 0.1

Array = NDArray[np.float64]
_LARGEST = 3  # products told one by one, those of the largest volume first
_TINY = 1e-12


def product_features(products: Sequence[Product]) -> Array:
    """What a list of products says without their quantities: how many, how large, how heavy."""
    return np.array(_of_products(products, _volumes(products)))


def record_features(record: BinRecord) -> Array:
    """What a whole record says: its products, and how its quantity is spread over them."""
    products = record.products or ()
    volumes = _volumes(products)
    quantities = [one.quantity for one in products]
    several = [volume for volume, quantity in zip(volumes, quantities, strict=True) if quantity > 1]
    spread = (
        record.quantity,
        record.quantity - len(products),
        len(several),
        max(quantities, default=0),
        quantities.count(2),
        sum(quantity > 2 for quantity in quantities),
        record.quantity == 0,
    )
    in_all = [volume * quantity for volume, quantity in zip(volumes, quantities, strict=True)]
    return np.array([*_of_products(products, volumes), *map(float, spread), *_summary(in_all), *_summary(several)])


# Plain numbers, not arrays: a bin holds a handful of products, for which these take a fifth of the time.
def _of_products(products: Sequence[Product], volumes: Sequence[float]) -> list[float]:
    number = len(products)
    longest = [one.sides[2] if one.sides else math.nan for one in products]
    weights = [math.nan if one.weight is None else one.weight for one in products]
    numbers = (number, number == 1, number == 2, number == 3, number > 5)
    return [*map(float, numbers), *_summary(volumes), *_summary(longest), *_summary(weights), *_largest(volumes)]


def _volumes(products: Sequence[Product]) -> list[float]:
    return [math.prod(one.sides) if one.sides else math.nan for one in products]


def _summary(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Logarithms of sum, mean and largest, and whether any is known; zeros for none."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 0.0, 0.0, 0.0
    total = math.fsum(known)
    return math.log1p(total), math.log1p(total / len(known)), math.log1p(max(known)), 1.0


def _largest(values: Sequence[float]) -> list[float]:
    known = sorted((math.log1p(value) for value in values if not math.isnan(value)), reverse=True)[:_LARGEST]
    return known + [0.0] * (_LARGEST - len(known))


class Perceptron(BaseModel):
    """A network of one hidden layer: features N×F to scores N×C, to be added to logarithms of probabilities."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    hidden: tuple[tuple[float, ...], ...]  # F×H
    hidden_bias: tuple[float, ...]
    output: tuple[tuple[float, ...], ...]  # H×C
    output_bias: tuple[float, ...]

    def __hash__(self) -> int:
        """By itself, not by its thousand numbers: what is kept of a network is found by this, in every judgement."""
        return id(self)

    def __call__(self, features: Array) -> Array:
        """Scores of N rows of features."""
        mean, scale, hidden_weights, hidden_bias, output, output_bias = _arrays(self)
        hidden = np.maximum((features - mean) / scale @ hidden_weights + hidden_bias, 0)
        scores: Array = hidden @ output + output_bias
        return scores


@lru_cache(maxsize=4)
def _arrays(network: Perceptron) -> tuple[Array, ...]:
    """Made once: turning tuples into arrays takes longer than using them."""
    fields = (network.mean, network.scale, network.hidden, network.hidden_bias, network.output, network.output_bias)
    return tuple(np.array(field, np.float64) for field in fields)


@dataclass(frozen=True)
class Judgement:
    """What photo and record say together of one bin.

    `mismatch` is the probability that it does not hold the recorded quantity, and `likeliest` the count it likeliest
    holds. Both are None for a quantity beyond K, of which the model knows only that it is "more"; `likeliest` also
    where that is "more".
    """

    mismatch: float | None
    likeliest: int | None


class RecordModel(Stored):
    """record.json of a bundle: π, gamma, and how records go wrong, learned with the share `error_rate` of wrong ones.

    `gamma` is for records that list products, whose photo and list both see volume; without a list it is 1.
    `wrong[c][r]` is the probability that a wrong record of a bin with c items says r = 0, 1, …; the last c is "more".
    """

    what: ClassVar[str] = "the model of records"
    remedy: ClassVar[str] = "train again"

    max_count: int = Field(ge=1)
    prior: tuple[float, ...]
    gamma: float = Field(ge=0)
    error_rate: float = Field(gt=0, lt=1)
    wrong: tuple[tuple[float, ...], ...]
    judge: Perceptron | None = None
    lists: Perceptron | None = None  # of what a list without quantities says; added to log π
    lists_gamma: float = 1.0
    sets: SetThresholds | None = None

    def judged(self, photo: Array, record: BinRecord, error_rate: float | None = None) -> Judgement:
        """Judge one bin: `photo` holds the K+2 probabilities of 0, 1…K, more.

        `error_rate` is ε, the learned one if None.
        """
        if record.quantity > self.max_count:
            return Judgement(None, None)
        classes = self.posterior(photo[None], [record], error_rate)[0]
        likeliest = int(classes.argmax())
        return Judgement(float(1 - classes[record.quantity]), likeliest if likeliest <= self.max_count else None)

    def posterior(self, photo: Array, records: Sequence[BinRecord], error_rate: float | Array | None = None) -> Array:
        """p(c | x, R) of N bins with quantities of 0…K, N×(K+2): `photo` N×(K+2) is what the photos say.

        `error_rate` is ε, of all or of each; the learned one if None.
        """
        listed = [record.products is not None and self.judge is not None for record in records]
        gamma = np.where(listed, self.gamma, 1.0)[:, None]
        return self.combine(photo, self.given_records(records, error_rate), gamma)

    def given_record(self, record: BinRecord, error_rate: float | None = None) -> Array:
        """p(c | R) of a record with a quantity of 0…K, K+2 probabilities; ε is the learned one if None."""
        found: Array = self.given_records([record], error_rate)[0]
        return found

    def given_records(self, records: Sequence[BinRecord], error_rate: float | Array | None = None) -> Array:
        """The same of N records, N×(K+2)."""
        recorded = np.array([record.quantity for record in records], int)
        classes = self._by_quantity()[recorded]
        listed = [place for place, record in enumerate(records) if record.products is not None]
        if self.judge is not None and listed:
            features = np.array([record_features(records[place]) for place in listed])
            classes[listed] = _softmax(np.log(classes[listed] + _TINY) + self.judge(features))
        if error_rate is not None:
            rates = np.reshape(error_rate, (-1, 1))
            odds = rates / (1 - rates) / (self.error_rate / (1 - self.error_rate))
            classes = classes * np.where(np.arange(classes.shape[1]) == recorded[:, None], 1.0, odds)
        normalised: Array = classes / classes.sum(axis=1, keepdims=True)
        return normalised

    def given_list(self, products: Sequence[Product]) -> Array:
        """p(c | the products, without their quantities), K+2 probabilities; π where nothing was learned of lists."""
        scores = np.log(np.array(self.prior) + _TINY)
        return _softmax(scores if self.lists is None else scores + self.lists(product_features(products)[None])[0])

    def combine(self, photo: Array, believed: Array, gamma: float | Array) -> Array:
        """[p(c | x) / π(c)]^gamma · p(c | …), normalised; rows of K+2 probabilities, gamma for all or N×1."""
        ratio = np.log(np.maximum(photo, _TINY)) - np.log(np.maximum(np.array(self.prior), _TINY))
        return _softmax(gamma * ratio + np.log(np.maximum(believed, _TINY)))

    def _by_quantity(self) -> Array:
        """The table p(c | r) ∝ π(c) q(r | c) with the learned ε: a row of K+2 for each r = 0…K."""
        says = self.error_rate * np.array(self.wrong).T
        np.fill_diagonal(says, 1 - self.error_rate)
        found: Array = says * np.array(self.prior)
        return found / found.sum(axis=1, keepdims=True)


def read_record_model(bundle: Bundle) -> RecordModel | None:
    """What the bundle knows of records; None for one that knows nothing of them. Raises UserError."""
    if RECORD_FILE not in bundle.info.checksums:
        return None
    return RecordModel.read(bundle.folder / RECORD_FILE)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normalised: Array = powers / powers.sum(axis=-1, keepdims=True)
    return normalised
