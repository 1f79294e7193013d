"""Rules that watch a training and say what looks wrong, with evidence and advice. Thresholds stand beside each rule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from components.train.records import EpochRecord, Finding


@dataclass(frozen=True)
class Evidence:
    """What the rules look at. Lists are in order of time."""

    class_counts: Sequence[int]  # training samples of each class
    classes: int
    step_losses: Sequence[float] = ()
    gradient_norms: Sequence[float] = ()  # of all layers together, each step
    first_layer_gradients: Sequence[float] = ()  # root mean square relative to the last layer's, each look
    dead_units: float = 0.0  # share of channels that were 0 for every sample of the last look
    epochs: Sequence[EpochRecord] = field(default_factory=tuple)
    on_gpu: bool = False


Rule = Callable[[Evidence], tuple[str, str] | None]
_RULES: dict[str, Rule] = {}
STOPPING = ("nan",)


def _rule(name: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES[name] = rule
        return rule

    return register


def check(evidence: Evidence) -> list[Finding]:
    """All rules that this evidence breaks."""
    findings = []
    for name, rule in _RULES.items():
        if (broken := rule(evidence)) is not None:
            findings.append(Finding(name, *broken, stops=name in STOPPING))
    return findings


def names() -> tuple[str, ...]:
    """Names of all rules, in the order they are checked."""
    return tuple(_RULES)


@_rule("nan")
def _nan(seen: Evidence) -> tuple[str, str] | None:
    for step, loss in enumerate(seen.step_losses):
        if not math.isfinite(loss):
            return f"the loss is {loss} at step {step + 1}", "Lower learning_rate, or set clip_norm to 1."
    for step, norm in enumerate(seen.gradient_norms):
        if not math.isfinite(norm):
            return f"the gradient is {norm} at step {step + 1}", "Lower learning_rate, or set autocast to f32."
    return None


@_rule("loss not decreasing")
def _loss_not_decreasing(seen: Evidence) -> tuple[str, str] | None:
    """The best of the last epochs is not 0.5 % below the first epoch."""
    losses = [epoch.train_loss for epoch in seen.epochs]
    if len(losses) >= 3 and min(losses[1:]) > 0.995 * losses[0]:
        return (
            f"training loss {losses[0]:.3f} in epoch 1, at best {min(losses[1:]):.3f} since, in {len(losses)} epochs",
            "Change learning_rate by a factor of 10 either way, and check that labels belong to their photos.",
        )
    return None


@_rule("overfitting")
def _overfitting(seen: Evidence) -> tuple[str, str] | None:
    """Training accuracy 20 points above validation while the validation loss rose by 10 % from its best."""
    if len(seen.epochs) < 3:
        return None
    last, best = seen.epochs[-1], min(epoch.validation_loss for epoch in seen.epochs)
    gap = last.train_accuracy - last.validation_accuracy
    if gap > 0.2 and last.validation_loss > 1.1 * best:
        return (
            f"training accuracy {last.train_accuracy:.0%}, validation {last.validation_accuracy:.0%}; "
            f"validation loss {last.validation_loss:.3f} after {best:.3f}",
            "Use more augmentation, dropout or weight_decay, more data, or fewer epochs.",
        )
    return None


@_rule("overtraining")
def _overtraining(seen: Evidence) -> tuple[str, str] | None:
    """The last third of the epochs, at least three, brought no lower validation loss."""
    losses = [epoch.validation_loss for epoch in seen.epochs]
    idle = len(losses) - 1 - losses.index(min(losses)) if losses else 0
    if idle >= max(3, math.ceil(len(losses) / 3)):
        return (
            f"validation loss was lowest in epoch {len(losses) - idle} of {len(losses)}",
            f"Train {len(losses) - idle} epochs, or set early_stopping to 3.",
        )
    return None


@_rule("vanishing gradient")
def _vanishing(seen: Evidence) -> tuple[str, str] | None:
    """In half of the looks the first layer's gradient is a millionth of the last one's, or all of it is below 1e-7."""
    small = [value for value in seen.first_layer_gradients if value < 1e-6]
    tiny = [value for value in seen.gradient_norms if value < 1e-7]
    if len(small) * 2 > len(seen.first_layer_gradients) or len(tiny) * 2 > len(seen.gradient_norms):
        return (
            f"the first layer's gradient is below 1e-6 of the last one's in {len(small)} of "
            f"{len(seen.first_layer_gradients)} looks; the whole is below 1e-7 in {len(tiny)} of "
            f"{len(seen.gradient_norms)} steps",
            "Use a backbone with normalisation or shortcuts, and check that its weights were loaded.",
        )
    return None


@_rule("exploding gradient")
def _exploding(seen: Evidence) -> tuple[str, str] | None:
    """A gradient 100 times the median of those before it and above 100, more than once."""
    finite = [norm for norm in seen.gradient_norms if math.isfinite(norm)]
    if len(finite) < 10:
        return None
    median = sorted(finite)[len(finite) // 2]
    large = [norm for norm in finite if norm > 100 and norm > 100 * median]
    if len(large) > 1 or median > 1e4:
        return (
            f"gradient norm up to {max(finite):.3g}, median {median:.3g}",
            "Lower learning_rate, lengthen warmup_share, or set clip_norm to 1.",
        )
    return None


@_rule("dead units")
def _dead(seen: Evidence) -> tuple[str, str] | None:
    """More than 40 % of the channels after an activation never fire."""
    if seen.dead_units > 0.4:
        return (
            f"{seen.dead_units:.0%} of the channels are 0 for every sample",
            "Lower learning_rate and start again from the backbone's first weights.",
        )
    return None


@_rule("saturated output")
def _saturated(seen: Evidence) -> tuple[str, str] | None:
    """After two epochs, all validation samples get one class."""
    if len(seen.epochs) < 2:
        return None
    counts = seen.epochs[-1].predicted
    if sum(counts) and max(counts) == sum(counts):
        return (
            f"all {sum(counts)} validation bins are given one count, number {counts.index(max(counts)) + 1}",
            "Train longer, change learning_rate, or set class_weighting.",
        )
    return None


@_rule("poor initial loss")
def _poor_start(seen: Evidence) -> tuple[str, str] | None:
    """The first step's loss is more than 1.5 times that of an even guess over the classes."""
    if not seen.step_losses:
        return None
    first, even = seen.step_losses[0], math.log(seen.classes)
    if math.isfinite(first) and first > 1.5 * even:
        return (
            f"loss {first:.2f} at step 1; an even guess has {even:.2f}",
            "Start the head with small weights, and check that photos are normalised as the backbone expects.",
        )
    return None


@_rule("class imbalance")
def _imbalance(seen: Evidence) -> tuple[str, str] | None:
    """A class without samples, or one ten times as large as another."""
    low, high = min(seen.class_counts), max(seen.class_counts)
    if low == 0 or high > 10 * low:
        return (
            f"{low} samples in the smallest class, {high} in the largest",
            "Gather more of the rare counts, or set class_weighting."
            if low
            else "The model cannot learn a count it never saw: use more bins, or a smaller max_count.",
        )
    return None


@_rule("data loader starving the device")
def _starving(seen: Evidence) -> tuple[str, str] | None:
    """A fifth of an epoch's time or more is spent waiting for photos, in the last epoch."""
    if not seen.epochs:
        return None
    last = seen.epochs[-1]
    waiting = last.times.get("read", 0.0)
    if last.seconds > 1 and waiting > 0.2 * last.seconds:
        return (
            f"{waiting / last.seconds:.0%} of epoch {last.epoch} went into waiting for photos",
            "Put the cache (BIN_COUNTER_CACHE) on a faster disk, or in memory.",
        )
    return None


@_rule("low device use")
def _low_use(seen: Evidence) -> tuple[str, str] | None:
    """The device computed less than half of the last epoch's time (less than 30 % of the GPU's)."""
    if not seen.epochs:
        return None
    last = seen.epochs[-1]
    use, least = (last.gpu_use, 0.3) if seen.on_gpu else (last.compute_share, 0.5)
    if last.seconds > 1 and use is not None and use < least:
        return (
            f"the {'GPU' if seen.on_gpu else 'processor'} computed {use:.0%} of epoch {last.epoch}",
            "Raise batch_size, and look at the time split for what it waited for.",
        )
    return None
