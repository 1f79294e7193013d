"""Whether a model is not worse than those that served before it: a test of non-inferiority on bins that none has seen.

A rule that only asks whether the difference could be chance lets every model pass that is a little worse than the one
before, and many of these go far down. So the reference is the best of the last REFERENCES versions that served, and it
may lead by the least that so many bins can tell: an equally good model passes EQUAL_PASSES of the time.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from components.core.bundle import Bundle, read_bundle
from components.core.errors import UserError
from components.core.predictions import predict_bins
from components.core.registry import Registry
from components.core.seen import unseen
from components.core.shards import ShardIndex

REFERENCES = 5
FEWEST_BINS = 100  # below, no comparison is made: a margin of ten points and more protects nobody
EQUAL_PASSES = 0.82
CONFIDENCE = 0.95  # that a model which passes is worse by less than the margin
_DRAWS = 4_000

Right = NDArray[np.bool_]  # which of N bins a model got right


@dataclass(frozen=True)
class Comparison:
    """The best reference on N bins that no model has seen, and by how much it leads ours (shares of the bins).

    `limit` is the upper end of the lead's one-sided 95 % interval; below `margin` ours is not inferior.
    """

    reference: str
    accuracy: float
    ours: float
    bins: int
    limit: float
    margin: float

    @property
    def lead(self) -> float:
        """How much oftener the reference is right."""
        return self.accuracy - self.ours

    @property
    def inferior(self) -> bool:
        """Whether ours may be worse by the margin or more."""
        return self.limit > self.margin


@dataclass(frozen=True)
class Skipped:
    """Why there is no comparison, as a clause."""

    reason: str


def compare_answers(ours: Right, references: Mapping[str, Right]) -> Comparison:
    """Compare which of the same N bins our model and each of the references got right.

    The margin is the smallest lead that N bins can refuse with CONFIDENCE while a model that is as good as all the
    references passes EQUAL_PASSES of the time (a sample size formula solved for the margin: Julious, Statistics in
    Medicine 2004). How far the best of several leads by chance is the quantile of the largest of correlated normal
    variables (Dunnett 1955), with Edwards' (1948) correction of McNemar's test, since bins are counted whole.
    """
    versions, bins = list(references), len(ours)
    leads = np.stack([references[version].astype(np.float64) - ours for version in versions])
    means = leads.mean(axis=1)
    best = int(means.argmax())
    covariance = np.atleast_2d(np.cov(leads, ddof=0)) / bins
    chance = 1 / bins
    if covariance.any():
        drawn = multivariate_normal(cov=covariance, allow_singular=True, seed=0).rvs(_DRAWS).reshape(_DRAWS, -1)
        chance += max(0.0, float(np.quantile(drawn.max(axis=1), EQUAL_PASSES)))
    surety = norm.ppf(CONFIDENCE) * np.sqrt(covariance[best, best])
    return Comparison(
        reference=versions[best],
        accuracy=float(references[versions[best]].mean()),
        ours=float(ours.mean()),
        bins=bins,
        limit=float(means[best] + surety),
        margin=float(chance + surety),
    )


def compare(
    test: pd.DataFrame, bundle: Bundle, index: ShardIndex, registry: Registry, champion: str
) -> Comparison | Skipped:
    """Ask `champion` and those that served before it about the test bins (a table of predictions of `bundle`).

    Versions that cannot be had or judged are passed over, told in a line each. Raises UserError when the
    champion cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        judges = _fetch(registry, champion, Path(folder))
        rows = test.set_index("image_id")
        fair = _fair_bins(judges, bundle, list(rows.index))
        if not fair:
            return Skipped("what the versions before it were trained on is not known")
        common = np.logical_and.reduce(list(fair.values()))
        bins = rows[common]
        if len(bins) < FEWEST_BINS:
            return Skipped(
                f"only {len(bins)} of the {len(rows)} test bins were seen in training by none of the {len(fair)} "
                f"versions before it, and {FEWEST_BINS} are needed"
            )
        truth = bins["quantity"].to_numpy()
        references = {version: _answers(judges[version], index, list(bins.index)) == truth for version in fair}
        return compare_answers(bins["count"].to_numpy() == truth, references)


def _fetch(registry: Registry, champion: str, folder: Path) -> dict[str, Bundle]:
    """The champion and the versions before it, newest first."""
    found = {}
    for version in registry.last_served(champion, REFERENCES):
        try:
            found[version] = read_bundle(registry.fetch(version, folder / version))
        except UserError as error:
            if version == champion:
                raise
            print(f"gate: version {version} is not compared with. {error}", flush=True)
    return found


def _fair_bins(judges: Mapping[str, Bundle], ours: Bundle, image_ids: Sequence[str]) -> dict[str, Right]:
    """By version, which of our test bins it has never seen; without versions of which that is not known."""
    fair = {}
    for version, bundle in judges.items():
        never = unseen(bundle, image_ids)
        if never is None and bundle.info.training_ids_digest == ours.info.training_ids_digest:
            never = np.ones(len(image_ids), np.bool_)
        if never is None:
            print(f"gate: version {version} is not compared with, because it does not tell its training bins.")
            continue
        fair[version] = never
    return fair


def _answers(bundle: Bundle, index: ShardIndex, image_ids: Sequence[str]) -> NDArray[np.int64]:
    answers = {
        image_id: int(count)
        for batch in predict_bins(bundle, index, set(image_ids))
        for image_id, count in zip(batch.image_ids, batch.prediction.counts, strict=True)
    }
    return np.array([answers[image_id] for image_id in image_ids])
