"""Decide whether a model may go into service: clearly better than guessing, and not worse than what served before."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.core.bundle import bundle_version, read_bundle
from components.core.errors import UserError
from components.core.metrics import Evaluation
from components.core.predictions import read_predictions
from components.core.record_metrics import FIRST_TENTH
from components.core.registry import Figures, Registry
from components.core.shards import ShardIndex
from components.core.verdict import Verdict
from components.gate.compare import Comparison, Skipped, compare

WEAK_BELOW = 100  # test bins: their interval is 20 points wide


@dataclass(frozen=True)
class Inputs:
    """What earlier steps wrote."""

    bundle: Path
    metrics: Path
    predictions: Path
    shard_index: Path


def gate(inputs: Inputs, champion: str, models_uri: str, margin: float, force: bool) -> Verdict:
    """Judge a bundle by its figures, and against `champion` ("" for none) and the versions that served before that.

    `margin` is what accuracy must have beyond the baseline and the interval's half width. With `force` the model passes
    whatever the rules say, and the verdict tells. Raises UserError when an input or the champion is broken.
    """
    bundle = read_bundle(inputs.bundle)
    version = bundle_version(inputs.bundle)
    evaluation = _read_evaluation(inputs.metrics)
    refusal = refuse_by_baseline(evaluation, margin)
    compared: Comparison | Skipped | None = None
    if champion and champion != version:
        test = read_predictions(inputs.predictions).query("subset == 'test'")
        index = ShardIndex.read(inputs.shard_index)
        index.note_use()
        compared = compare(test, bundle, index, Registry.open(models_uri), champion)
    comparison = compared if isinstance(compared, Comparison) else None
    refusal = refusal or (refuse_by_reference(comparison) if comparison else "")
    forced = bool(refusal) and force
    sentences = [
        refusal or _praise(evaluation, compared),
        f"With {evaluation.n_test} test bins this is a weak verdict; {WEAK_BELOW} or more would tell more."
        if evaluation.n_test < WEAK_BELOW
        else "",
        _of_records(evaluation),
        "It goes into service all the same, because that was forced." if forced else "",
    ]
    verdict = Verdict(
        passed=forced or not refusal,
        forced=forced,
        reason=" ".join(filter(None, sentences)),
        version=version,
        weak=evaluation.n_test < WEAK_BELOW,
        champion=champion,
        reference=comparison.reference if comparison else "",
        reference_accuracy=comparison.accuracy if comparison else None,
        compared_bins=comparison.bins if comparison else 0,
        figures=_figures(evaluation),
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


def refuse_by_reference(comparison: Comparison) -> str:
    """Why what serves now should stay; "" when ours is not inferior to the best version of late."""
    if not comparison.inferior:
        return ""
    return (
        f"Version {comparison.reference}, the best of those that served of late, is right on {comparison.accuracy:.1%} "
        f"of {comparison.bins} test bins that no version was trained on, and this one on {comparison.ours:.1%}: "
        f"it may be worse by {comparison.limit:.1%}, and {comparison.margin:.1%} is what so many bins allow. "
        "Train longer or on more bins."
    )


def _praise(evaluation: Evaluation, compared: Comparison | Skipped | None) -> str:
    beaten = (
        f"Accuracy {evaluation.accuracy:.1%} on {evaluation.n_test} test bins is clearly above always answering "
        f"{evaluation.baseline_count} ({evaluation.baseline_accuracy:.1%})"
    )
    if compared is None:
        return f"{beaten}."
    if isinstance(compared, Skipped):
        return f"{beaten}. That alone decided: {compared.reason}."
    return (
        f"{beaten}, and it is not worse than version {compared.reference}, the best of those that served of late, by "
        f"{compared.margin:.1%} or more ({compared.ours:.1%} against {compared.accuracy:.1%} on {compared.bins} test "
        "bins that no version was trained on)."
    )


def _figures(evaluation: Evaluation) -> Figures:
    figures = Figures.model_validate(evaluation.model_dump())
    if evaluation.records is None:
        return figures
    found, without_photo = (one.found[FIRST_TENTH].mean for one in evaluation.records.ranked)
    return figures.model_copy(update={"wrong_records_found": found, "wrong_records_found_without_photo": without_photo})


def _of_records(evaluation: Evaluation) -> str:
    figures = _figures(evaluation)
    if figures.wrong_records_found is None:
        return ""
    return (
        f"Of wrong records it finds {figures.wrong_records_found:.0%} in the first tenth of recounts "
        f"({figures.wrong_records_found_without_photo:.0%} without the photo)."
    )


def _read_evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise UserError(f"There are no figures at {path} that can be read; run evaluate again.") from error
