"""Learn how records go wrong, and what a list of products says: from training records with drawn errors.

The photo comes in by the validation bins alone: their held-out probabilities give π and gamma.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch.nn import functional

from components.core.contents import BinRecord, Product
from components.core.count_sets import LEVEL, SetThresholds, threshold
from components.core.posterior import Perceptron, RecordModel, product_features, record_features
from components.core.record_errors import ERROR_RATE, each_wrong_record

FEWEST_LISTS = 200  # training records that list products; below, the quantity alone is judged by
_DRAWS = 3  # of each kind of error for every record
_HIDDEN = 32
_EPOCHS = 60
_BATCH = 2048
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_HELD_OUT = 0.15  # of the training records, the last by id, so that whole neighbourhoods are held out
_GAMMAS = (0.0, 1.5)
_SMOOTHING = 0.5  # added to every cell of the table of wrong quantities

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Bins whose records are taken for true, in the order of their ids; `photo` N×(K+2) is what their photos say."""

    records: Sequence[BinRecord]
    photo: Array


@dataclass(frozen=True)
class _Rows:
    """Examples to learn from: features N×F, logarithms N×C to start from, classes N, weights N."""

    features: Array
    offsets: Array
    classes: NDArray[np.int64]
    weights: Array

    def part(self, chosen: NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.features[chosen], self.offsets[chosen], self.classes[chosen], self.weights[chosen])


def fit_record_model(training: Sequence[BinRecord], validation: Known, max_count: int, seed: int) -> RecordModel:
    """Fit everything that record.json holds. `training` are the training blocks' records of every count, by id."""
    prior = validation.photo.mean(axis=0)
    random = np.random.default_rng([seed, 18])
    listed = [record for record in training if record.products is not None]
    whole = listed or [_as_list(record) for record in training]
    wrong = _wrong_quantities(whole, max_count, random)
    model = RecordModel(
        max_count=max_count,
        prior=tuple(prior),
        gamma=1.0,
        error_rate=ERROR_RATE,
        wrong=tuple(map(tuple, wrong)),
    )
    if len(listed) >= FEWEST_LISTS:
        with _one_thread():
            judge, lists = _fit_judge(model, listed, random, seed), _fit_lists(model, listed, seed)
        model = model.model_copy(update={"judge": judge, "lists": lists})
        model = model.model_copy(update=_fit_gammas(model, validation, _pool(listed), random))
    return model.model_copy(update={"sets": _thresholds(model, validation)})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks as small as these take ten times as long where threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def class_of(quantity: int, max_count: int) -> int:
    """0, 1…max_count, and max_count + 1 for more."""
    return min(quantity, max_count + 1)


def _as_list(record: BinRecord) -> BinRecord:
    """Of a record that lists nothing, as if every item were a product of its own."""
    return BinRecord.of([Product(1)] * record.quantity)


def _pool(records: Sequence[BinRecord]) -> list[Product]:
    return [product for record in records for product in record.products or ()]


def _wrong_quantities(records: Sequence[BinRecord], max_count: int, random: np.random.Generator) -> Array:
    """q(r | c) of wrong records: rows c = 0…K, more; columns r = 0…K. Rows sum to less than 1 where r may exceed K."""
    pool = _pool(records)
    counts = np.zeros((max_count + 2, max_count + 1))
    totals = np.zeros(max_count + 2)
    for record in records:
        place = class_of(record.quantity, max_count)
        for _, shown, share in each_wrong_record(record, pool, max_count, random):
            totals[place] += share
            if shown.quantity <= max_count:
                counts[place, shown.quantity] += share
    smoothed = counts + _SMOOTHING
    smoothed[np.arange(max_count + 1), np.arange(max_count + 1)] = 0  # a wrong record never says the truth
    found: Array = smoothed / (totals[:, None] + _SMOOTHING * (max_count + 2))
    return found


def _fit_judge(model: RecordModel, records: Sequence[BinRecord], random: np.random.Generator, seed: int) -> Perceptron:
    pool, most = _pool(records), model.max_count
    bare = model.model_copy(update={"judge": None})
    features, offsets, classes, weights, owners = [], [], [], [], []
    starts = [np.log(bare.given_record(BinRecord(quantity)) + 1e-12) for quantity in range(most + 1)]

    def add(shown: BinRecord, truth: BinRecord, weight: float, owner: int) -> None:
        if shown.quantity <= most:
            features.append(record_features(shown))
            offsets.append(starts[shown.quantity])
            classes.append(class_of(truth.quantity, most))
            weights.append(weight)
            owners.append(owner)

    for owner, truth in enumerate(records):
        add(truth, truth, 1 - model.error_rate, owner)
        for _ in range(_DRAWS):
            for _, shown, share in each_wrong_record(truth, pool, most, random):
                add(shown, truth, model.error_rate * share / _DRAWS, owner)
    rows = _Rows(np.array(features), np.array(offsets), np.array(classes), np.array(weights))
    held_out = np.array(owners) >= (1 - _HELD_OUT) * len(records)
    return _fit(rows.part(~held_out), rows.part(held_out), seed)


def _fit_lists(model: RecordModel, records: Sequence[BinRecord], seed: int) -> Perceptron:
    rows = _Rows(
        np.array([product_features(record.products or ()) for record in records]),
        np.tile(np.log(np.array(model.prior) + 1e-12), (len(records), 1)),
        np.array([class_of(record.quantity, model.max_count) for record in records]),
        np.ones(len(records)),
    )
    held_out = np.arange(len(records)) >= (1 - _HELD_OUT) * len(records)
    return _fit(rows.part(~held_out), rows.part(held_out), seed)


def _fit(rows: _Rows, held_out: _Rows, seed: int) -> Perceptron:
    """A perceptron by gradient descent, with the weights of the epoch that did best on what was held out."""
    mean, scale = rows.features.mean(axis=0), np.maximum(rows.features.std(axis=0), 1e-6)
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = rows.features.shape[1], rows.offsets.shape[1]
    hidden = (torch.randn(inputs, _HIDDEN, generator=generator) / inputs**0.5).requires_grad_()
    output = torch.zeros(_HIDDEN, outputs, requires_grad=True)  # it starts as what the offsets say
    biases = [torch.zeros(_HIDDEN, requires_grad=True), torch.zeros(outputs, requires_grad=True)]
    parameters = [hidden, output, *biases]
    optimiser = torch.optim.AdamW(parameters, _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def loss_of(part: _Rows, chosen: torch.Tensor | slice) -> torch.Tensor:
        standard = torch.tensor((part.features[chosen] - mean) / scale, dtype=torch.float32)
        scores = torch.relu(standard @ hidden + biases[0]) @ output + biases[1]
        scores = scores + torch.tensor(part.offsets[chosen], dtype=torch.float32)
        each = functional.cross_entropy(scores, torch.tensor(part.classes[chosen]), reduction="none")
        weights = torch.tensor(part.weights[chosen], dtype=torch.float32)
        return (each * weights).sum() / weights.sum()

    best, kept = np.inf, [parameter.detach().clone() for parameter in parameters]
    for _ in range(_EPOCHS):
        with torch.no_grad():
            loss = loss_of(held_out, slice(None)).item()
        if loss < best:
            best, kept = loss, [parameter.detach().clone() for parameter in parameters]
        for chosen in torch.randperm(len(rows.classes), generator=generator).split(_BATCH):
            optimiser.zero_grad()
            loss_of(rows, chosen).backward()
            optimiser.step()
    return Perceptron(
        mean=tuple(mean),
        scale=tuple(scale),
        hidden=tuple(map(tuple, kept[0].tolist())),
        output=tuple(map(tuple, kept[1].tolist())),
        hidden_bias=tuple(kept[2].tolist()),
        output_bias=tuple(kept[3].tolist()),
    )


def _fit_gammas(
    model: RecordModel, validation: Known, pool: Sequence[Product], random: np.random.Generator
) -> dict[str, float]:
    """gamma for records with products and for lists without quantities, by the loss on validation bins."""
    photos, believed, truths, weights = [], [], [], []
    for record, photo in zip(validation.records, validation.photo, strict=True):
        if record.products is None:
            continue
        errors = each_wrong_record(record, pool, model.max_count, random)
        drawn = [(shown, model.error_rate * share) for _, shown, share in errors]
        for shown, weight in [(record, 1 - model.error_rate), *drawn]:
            if shown.quantity <= model.max_count:
                photos.append(photo)
                believed.append(model.given_record(shown))
                truths.append(class_of(record.quantity, model.max_count))
                weights.append(weight)
    if not photos:
        return {}
    loss = partial(_loss, model, np.array(photos), np.array(believed), np.array(truths), np.array(weights))
    return {"gamma": _least(loss), "lists_gamma": _lists_gamma(model, _Listed.of(model, validation))}


@dataclass(frozen=True)
class _Listed:
    """Validation bins whose products are known: what photos and lists say (N×C each), and what is true (N)."""

    photo: Array
    lists: Array
    classes: NDArray[np.int64]

    @classmethod
    def of(cls, model: RecordModel, validation: Known) -> "_Listed":
        places = [place for place, record in enumerate(validation.records) if record.products is not None]
        lists = [model.given_list(validation.records[place].products or ()) for place in places]
        classes = [class_of(validation.records[place].quantity, model.max_count) for place in places]
        return cls(validation.photo[places], np.array(lists), np.array(classes))

    def at(self, places: NDArray[np.int64]) -> "_Listed":
        return _Listed(self.photo[places], self.lists[places], self.classes[places])


def _lists_gamma(model: RecordModel, listed: _Listed) -> float:
    return _least(partial(_loss, model, listed.photo, listed.lists, listed.classes, np.ones(len(listed.classes))))


def _thresholds(model: RecordModel, validation: Known) -> SetThresholds:
    """Of sets. Photos are calibrated without the bin already; gamma is fitted on one half for the other."""
    classes = np.array([class_of(record.quantity, model.max_count) for record in validation.records])
    found = SetThresholds(level=LEVEL, photo=threshold(validation.photo, classes))
    if model.lists is None:
        return found
    listed = _Listed.of(model, validation)
    halves = np.array_split(np.random.default_rng(0).permutation(len(listed.classes)), 2)
    if not len(halves[-1]):
        return found
    together = np.empty_like(listed.lists)
    for ours, others in (halves, halves[::-1]):
        gamma = _lists_gamma(model, listed.at(others))
        together[ours] = model.combine(listed.photo[ours], listed.lists[ours], gamma)
    return found.model_copy(update={"listed": threshold(together, listed.classes)})


def _loss(
    model: RecordModel, photo: Array, believed: Array, truth: NDArray[np.int64], weights: Array, gamma: float
) -> float:
    classes = model.combine(photo, believed, gamma)
    return float((-np.log(np.maximum(classes[np.arange(len(truth)), truth], 1e-12)) * weights).sum() / weights.sum())


def _least(loss: Callable[[float], float]) -> float:
    return float(minimize_scalar(loss, bounds=_GAMMAS, method="bounded").x)
