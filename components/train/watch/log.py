"""What a training says while it runs: lines for people, TensorBoard files where asked for."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.metrics import believable
from components.train.job import Prepared, Result
from components.train.records import EpochRecord, Outcome

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Log:
    """Prints every epoch, and writes TensorBoard event files into `folder` unless that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.images = 0

    def __enter__(self) -> "Log":
        if self.folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # two seconds to import

            self.writer = SummaryWriter(str(self.folder))
        return self

    def __exit__(self, *error: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def epoch(self, record: EpochRecord) -> None:
        """Tell of an epoch that ended."""
        self.images += record.images
        print(
            f"epoch {record.epoch}: {self.images:,} images seen, {record.images / record.seconds:,.0f}/s at "
            f"{record.image_size} px, loss {record.train_loss:.4f}, running accuracy {record.train_accuracy:.1%}; "
            f"validation loss {record.validation_loss:.4f}, accuracy {record.validation_accuracy:.1%}",
            flush=True,
        )
        if self.writer is None:
            return
        for name in (
            "train_loss",
            "train_accuracy",
            "validation_loss",
            "validation_accuracy",
            "learning_rate",
            "gradient_norm",
        ):
            group, _, kind = name.partition("_")
            tag = f"{kind}/{group}" if group in ("train", "validation") else name
            self.writer.add_scalar(tag, getattr(record, name), record.epoch)
        self.writer.add_scalar("images_per_second", record.images / record.seconds, record.epoch)
        for part, seconds in record.times.items():
            self.writer.add_scalar(f"seconds/{part}", seconds, record.epoch)


def write_history(outcome: Outcome, path: Path) -> None:
    """Write what was measured at every epoch and step, and what the rules found, as JSON."""
    content = {
        "epochs": [record.model_dump() for record in outcome.history],
        "step_losses": outcome.step_losses,
        "gradient_norms": outcome.gradient_norms,
        "findings": [asdict(finding) for finding in outcome.findings],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def announce(prepared: Prepared) -> None:
    """Say what is about to be trained, and on what."""
    job, data = prepared.job, prepared.data
    print(
        f"recipe {job.recipe.name}: {job.recipe.backbone} ({prepared.backbone.origin}) at {job.recipe.image_size} px, "
        f"{len(data.train):,} training bins, {len(data.validation):,} validation bins",
        flush=True,
    )
    if data.missing:
        print(f"{data.missing} bins of the split have no usable photo and are left out.", flush=True)
    for count in range(1, job.max_count + 1):
        if not (data.train.quantities == count).any():
            print(f"No training bin holds {count} items: the model cannot learn that count.", flush=True)


def summarise(result: Result) -> None:
    """Say what came out."""
    fitted = result.fitted
    for finding in fitted.outcome.findings:
        print(f"rule '{finding.rule}': {finding.evidence}. {finding.advice}", flush=True)
    if result.extra is not None:
        print(result.extra, flush=True)
    if fitted.outcome.stopped:
        print(f"Stopped early: {fitted.outcome.stopped}.", flush=True)
    figures = result.bundle.info.metrics
    print(f"{fitted.calibrated} {believable(figures['ece'], figures['ece_if_calibrated'])}", flush=True)
    print(f"To be served in {result.bundle.info.precision}; bundle {result.bundle.folder}", flush=True)
