"""Decide whether a model may go into service: clearly better than guessing, and not worse than what serves now."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from components.core.bundle import bundle_version, read_bundle
from components.core.errors import UserError
from components.core.metrics import Evaluation, Interval, paired_interval
from components.core.predictions import predict_bins, read_predictions
from components.core.registry import Figures, Registry
from components.core.shards import ShardIndex
from components.core.verdict import Verdict


@dataclass(frozen=True)
class Comparison:
    """A serving model on the same test bins: how often it is right, and by how much more than ours (as a share)."""

    version: str
    accuracy: float
    lead: float
    interval: Interval

    @property
    def half_width(self) -> float:
        """Half the width of the paired interval."""
        return (self.interval[1] - self.interval[0]) / 2


@dataclass(frozen=True)
class Inputs:
    """What earlier steps wrote."""

    bundle: Path
    metrics: Path
    predictions: Path
    shard_index: Path


def gate(inputs: Inputs, champion: str, models_uri: str, margin: float, force: bool) -> Verdict:
    """Judge a bundle by its figures and against version `champion` ("" for none) on the same test bins.

    `margin` is what accuracy must have beyond the baseline and the interval's half width. With `force` the model passes
    whatever the rules say, and the verdict tells. Raises UserError when an input or the champion is broken.
    """
    version = bundle_version(inputs.bundle)
    evaluation = _read_evaluation(inputs.metrics)
    comparison = None
    if champion and champion != version:
        test = read_predictions(inputs.predictions).query("subset == 'test'")
        comparison = compare(test, ShardIndex.read(inputs.shard_index), Registry.open(models_uri), champion)
    refusal = refuse_by_baseline(evaluation, margin) or (comparison and refuse_by_champion(evaluation, comparison))
    forced = bool(refusal) and force
    reason = refusal or _praise(evaluation, comparison)
    verdict = Verdict(
        passed=forced or not refusal,
        forced=forced,
        reason=f"{reason} It goes into service all the same, because that was forced." if forced else reason,
        version=version,
        champion=champion,
        champion_accuracy=comparison.accuracy if comparison else None,
        figures=Figures.model_validate(evaluation.model_dump()),
    )
    print(f"gate: {verdict.decision}. {verdict.reason}", flush=True)
    return verdict


def refuse_by_baseline(evaluation: Evaluation, margin: float) -> str:
    """Why accuracy is not clearly above always answering the commonest count; "" when it is."""
    low, high = evaluation.accuracy_ci95
    needed = evaluation.baseline_accuracy + (high - low) / 2 + margin
    if evaluation.accuracy > needed:
        return ""
    return (
        f"Accuracy {evaluation.accuracy:.1%} is not above {needed:.1%}, which is always answering "
        f"{evaluation.baseline_count} ({evaluation.baseline_accuracy:.1%}) and the uncertainty of "
        f"{evaluation.n_test} test bins{f' and the margin of {margin:.1%}' if margin else ''}; "
        "train longer or on more bins."
    )


def refuse_by_champion(evaluation: Evaluation, comparison: Comparison) -> str:
    """Why the serving model should stay; "" when it is not better by more than chance explains."""
    if comparison.lead <= comparison.half_width:
        return ""
    return (
        f"Version {comparison.version}, which serves now, is right on {comparison.accuracy:.1%} of the same "
        f"{evaluation.n_test} test bins and this one on {evaluation.accuracy:.1%}: more than chance explains "
        f"(±{comparison.half_width:.1%}), so it stays."
    )


def compare(test: pd.DataFrame, index: ShardIndex, registry: Registry, champion: str) -> Comparison:
    """Ask the champion about the test bins (a table of predictions) that our model was asked about."""
    rows = test.set_index("image_id")
    with tempfile.TemporaryDirectory() as folder:
        bundle = read_bundle(registry.fetch(champion, Path(folder)))
        answers = {
            image_id: int(count)
            for batch in predict_bins(bundle, index, set(rows.index))
            for image_id, count in zip(batch.image_ids, batch.prediction.counts, strict=True)
        }
    theirs = np.array([answers[image_id] for image_id in rows.index]) == rows["quantity"].to_numpy()
    ours = rows["count"].to_numpy() == rows["quantity"].to_numpy()
    return compare_answers(champion, ours, theirs)


def compare_answers(champion: str, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Compare which of the same N bins each model got right (booleans)."""
    interval = paired_interval(theirs.astype(np.float64), ours.astype(np.float64))
    return Comparison(champion, float(theirs.mean()), float(theirs.mean() - ours.mean()), interval)


def _praise(evaluation: Evaluation, comparison: Comparison | None) -> str:
    beaten = (
        f"Accuracy {evaluation.accuracy:.1%} on {evaluation.n_test} test bins is clearly above always answering "
        f"{evaluation.baseline_count} ({evaluation.baseline_accuracy:.1%})"
    )
    if comparison is None:
        return f"{beaten}."
    return (
        f"{beaten}, and version {comparison.version}, which serves now, is not better by more than chance explains "
        f"({comparison.accuracy:.1%} on the same bins)."
    )


def _read_evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise UserError(f"There are no figures at {path} that can be read; run evaluate again.") from error
