"""The training loop, the same for a whole network on photos and for a head on features.

Everything random comes from the seed and the step alone, so a run that goes on from a checkpoint takes the same path as
one that never stopped, and several processes take the path of one.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from components.core.errors import UserError
from components.core.recipe import Recipe
from components.train.loop import augment
from components.train.loop.batches import Share, epoch_batches, generator_of, mixed, prefetched, share_of
from components.train.loop.checkpoint import Checkpoints
from components.train.loop.distributed import Processes
from components.train.loop.notes import StepNotes
from components.train.loop.optimise import (
    Average,
    class_weights,
    computes_in_bf16,
    create_optimiser,
    learning_rate_at,
    losses,
)
from components.train.loop.process import STOPPED_BY_SIGNAL, Interrupted, on_sigterm
from components.train.network.model import Classes
from components.train.records import EpochRecord, Finding, Inputs, Outcome, Progress
from components.train.watch.inspect import Inspector
from components.train.watch.measure import Times, UseSampler, tracing
from components.train.watch.rules import Evidence, check

_VALIDATION_BATCH = 32
_NORM_LOOKS = 20  # a look at the layers' gradients in so many steps


class Training:
    """One run of the loop."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        classes: Classes,
        inputs: Inputs,
        seed: int,
        processes: Processes,
        checkpoints: Checkpoints,
        on_epoch: Callable[[EpochRecord], None] = lambda _: None,
        trace: Path | None = None,
    ) -> None:
        self.recipe, self.classes, self.inputs, self.seed = recipe, classes, inputs, seed
        self.processes, self.checkpoints, self.on_epoch = processes, checkpoints, on_epoch
        self.trace = trace if processes.leads else None
        self.device = processes.device
        self.batch_size = recipe.batch_size
        self._check_sizes()
        self.steps_per_epoch = math.ceil(len(inputs.train) / recipe.batch_size)
        self.epochs = max(recipe.epochs, math.ceil(recipe.minimum_steps / self.steps_per_epoch))
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.wrapped = processes.wrap(self.model)
        self.optimiser = create_optimiser(recipe, self.model)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.labels = classes.of_quantity(torch.from_numpy(inputs.train.quantities))
        counts = torch.bincount(self.labels, minlength=classes.number).float()
        self.class_counts = [int(count) for count in counts]
        self.weights = class_weights(counts) if recipe.class_weighting else torch.ones(classes.number)
        self.average = Average(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.best: dict[str, Tensor] | None = None
        self.progress = Progress()
        self.inspector = Inspector(self.model)
        self.times = Times(self.device)
        self.stop_asked = False
        self.notes = StepNotes(classes, processes)
        self.traced_step: Callable[[], None] = lambda: None
        self.findings: list[Finding] = []
        self.autocast = computes_in_bf16(recipe.autocast, self.device)

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint where there is one.

        Raises Interrupted (exit status 143) after SIGTERM, with the checkpoint written, and UserError when a rule stops
        the run.
        """
        self._restore(self.processes.from_lead(self.checkpoints.load() if self.processes.leads else None))
        stopped = ""
        use = UseSampler(self.device)
        with on_sigterm(self._ask_to_stop), use, tracing(self.trace) as self.traced_step:
            while self.progress.epoch < self.epochs and not self.progress.done:
                self._epoch(use)
                patience = self.recipe.early_stopping
                if patience and self.progress.epoch - self.progress.best_epoch >= patience:
                    self.progress.done = True
        if self.progress.epoch < self.epochs:
            stopped = f"validation loss has not fallen for {self.recipe.early_stopping} epochs"
        self._save()
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            self.average.copy_to(self.model)
        history = [EpochRecord.model_validate(record) for record in self.progress.history]
        if not self.findings:
            self.findings = check(self._evidence(history))
        return Outcome(
            history,
            self.findings,
            self.progress.step_losses,
            self.progress.gradient_norms,
            stopped,
            len(history) if self.best is None else self.progress.best_epoch,
            use.samples,
        )

    def _check_sizes(self) -> None:
        number, batch, processes = len(self.inputs.train), self.recipe.batch_size, self.processes.number
        if processes > number:
            raise UserError(f"{processes} processes cannot share {number} training bins; start fewer processes.")
        if batch > number:
            raise UserError(
                f"A batch of {batch} is larger than the {number} training bins; choose a smaller batch_size."
            )
        if batch < processes:
            raise UserError(f"A batch of {batch} cannot be shared by {processes} processes; raise batch_size.")

    def _epoch(self, use: UseSampler) -> None:
        progress, epoch = self.progress, self.progress.epoch
        size = self.recipe.size_at(epoch, self.epochs)
        with self.times.part("decode"):
            source = self.inputs.training(size)
        batches = epoch_batches(len(self.inputs.train), self.batch_size, self.seed, epoch)
        shares = [share_of(len(batch), self.processes.rank, self.processes.number) for batch in batches]
        rows = [self.inputs.train.rows[batch[share.places]] for batch, share in zip(batches, shares, strict=True)]
        start, first_use = time.monotonic(), len(use.samples)
        self._set_train_mode()
        ready = prefetched(source, rows[progress.batch :])
        for number in range(progress.batch, len(batches)):
            self.times.step()
            with self.times.part("read"):
                inputs = next(ready)
            self._step(inputs, batches[number], shares[number], epoch * self.steps_per_epoch + number)
            self.traced_step()
            progress.batch = number + 1
            self._pause(start, last=number + 1 == len(batches))
        self._close_epoch(size, start, use, first_use)

    def _pause(self, start: float, last: bool) -> None:
        """Between two steps: stop if asked to, write a checkpoint if one is due."""
        self._stop_if_asked(start)
        if self.checkpoints.place and self.processes.from_lead(self.checkpoints.due()) and not last:
            self._save_within(start)

    def _stop_if_asked(self, start: float) -> None:
        """After SIGTERM on any process: write a checkpoint and end all of them."""
        if not self.processes.any(self.stop_asked):
            return
        written = self._save_within(start)
        if self.processes.leads:
            told = f"the checkpoint is {self.checkpoints.where}" if written else "no checkpoint was written"
            print(f"Stopped by SIGTERM after step {len(self.progress.step_losses)}; {told}.", flush=True)
        raise Interrupted(STOPPED_BY_SIGNAL)

    def _save_within(self, start: float) -> bool:
        """A checkpoint within an epoch, with the time the epoch took so far."""
        before = self.progress.seconds
        self.progress.seconds += time.monotonic() - start
        written = self._save()
        self.progress.seconds = before
        return written

    def _set_train_mode(self) -> None:
        self.wrapped.train()
        if self.recipe.batch_norm == "frozen":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _step(self, inputs: Tensor, batch: NDArray[np.int64], share: Share, step: int) -> None:
        recipe, labels = self.recipe, self.labels[batch]
        with self.times.part("copy and augment", every_step=False):
            # Drawn for the global batch, then cut: what a sample gets does not depend on the number of processes.
            draws = augment.draw(recipe, len(batch), generator_of(self.seed, step))
            inputs = self._prepare(inputs, draws.part(share.places).to(self.device))
            own = labels[share.places].to(self.device)
            weights = self.weights[labels].to(self.device)
        rate = learning_rate_at(recipe, step, self.epochs * self.steps_per_epoch)
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        torch.manual_seed(mixed(self.seed, step, self.processes.rank))  # dropout
        with self.times.part("forward", every_step=False):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                logits = self.wrapped(inputs)
            logits = logits.float()
            each = losses(recipe, logits, own) * weights[share.places] * float(share.counted)
            # DDP averages gradients over the processes; this makes the average that of the global batch.
            loss = each.sum() * self.processes.number / weights.sum()
        with self.times.part("backward", every_step=False):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        with self.times.part("optimiser", every_step=False):
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm or math.inf)
            self.optimiser.step()
            if self.average is not None:
                self.average.update(self.model)
        self.notes.add(loss.detach(), each.detach(), logits.detach(), own, share.counted, norm.detach())
        if step % _NORM_LOOKS == 0:
            self.progress.first_layer.append(self.inspector.first_to_last_gradient())
        if self.notes.full:
            self._write_down()

    def _prepare(self, inputs: Tensor, draws: augment.Draw) -> Tensor:
        normalise = self.inputs.normalise
        if normalise is None:
            return inputs
        photos = augment.apply(inputs.permute(0, 3, 1, 2).float(), draws)
        return (photos * normalise.scale + normalise.offset).contiguous(memory_format=torch.channels_last)

    def _write_down(self) -> None:
        """Bring the notes of the last steps into the progress. Raises UserError when they are not finite."""
        progress = self.progress
        for note in self.notes.fetched():
            progress.sums = [old + new for old, new in zip(progress.sums, note.sums, strict=True)]
            progress.step_losses.append(note.loss)
            progress.gradient_norms.append(note.norm)
            if not (math.isfinite(note.loss) and math.isfinite(note.norm)):
                finding = check(self._evidence([]))[0]
                raise UserError(
                    f"Training was stopped by the rule '{finding.rule}': {finding.evidence}. {finding.advice}"
                )

    def _close_epoch(self, size: int, start: float, use: UseSampler, first_use: int) -> None:
        self._write_down()
        progress = self.progress
        seconds = progress.seconds + time.monotonic() - start
        with self.times.part("validate"):
            logits = self._validate(start)
        wanted = torch.from_numpy(self.inputs.judged.quantities) - 1
        predicted = logits.argmax(1)
        loss = functional.cross_entropy(logits, wanted).item()
        times = dict(self.times.seconds)
        self.times.seconds.clear()
        gpu = [sample.gpu for sample in use.samples[first_use:] if sample.gpu is not None]
        total, samples, right, in_range = progress.sums
        record = EpochRecord(
            epoch=progress.epoch + 1,
            steps=self.steps_per_epoch,
            images=int(samples),
            image_size=size,
            seconds=seconds,
            train_loss=total / samples,
            train_accuracy=right / max(in_range, 1),
            validation_loss=loss,
            validation_accuracy=(predicted == wanted).float().mean().item(),
            learning_rate=self.optimiser.param_groups[-1]["lr"],
            gradient_norm=float(np.mean(progress.gradient_norms[-self.steps_per_epoch :])),
            predicted=tuple(torch.bincount(predicted, minlength=self.classes.max_count).tolist()),
            times=times,
            compute_share=sum(times.get(name, 0) for name in ("forward", "backward", "optimiser")) / max(seconds, 1e-9),
            gpu_use=float(np.mean(gpu)) if gpu else None,
        )
        progress.history.append(record.model_dump(mode="json"))
        progress.epoch, progress.batch, progress.seconds, progress.sums = progress.epoch + 1, 0, 0.0, [0.0] * 4
        if self.recipe.early_stopping and loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            self.best = {name: value.clone() for name, value in self._weights_to_judge().items()}
        history = [EpochRecord.model_validate(old) for old in progress.history]
        self.findings = check(self._evidence(history))
        self.on_epoch(record)
        if self.processes.from_lead(self.checkpoints.due()):
            self._save()

    @torch.no_grad()
    def _validate(self, start: float) -> Tensor:
        """Logits of the counts 1…max_count for the validation bins; the bins are shared among the processes."""
        own = None if self.average is None else self.average.swap_in(self.model)
        self.model.eval()
        rows, number = self.inputs.judged.rows, self.processes.number
        logits = torch.zeros(len(rows), self.classes.max_count)
        # Every process goes round as often, because they agree on stopping in between.
        rounds = math.ceil(len(rows) / (_VALIDATION_BATCH * number))
        for place in range(rounds):
            first = (place * number + self.processes.rank) * _VALIDATION_BATCH
            chosen = slice(first, first + _VALIDATION_BATCH)
            if len(rows[chosen]):
                inputs = self.inputs.validation.gather(rows[chosen])
                # Watching reads every activation once more, so one batch has to do.
                watch = self.inspector.watching_activations() if place == 0 else nullcontext()
                with watch, torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                    found = self.model(self.inputs.normalise(inputs) if self.inputs.normalise else inputs)
                logits[chosen] = self.classes.in_range(found.float()).cpu()
            if self.processes.any(self.stop_asked):
                break
        self.progress.dead_units = self.inspector.dead_units
        if own is not None:
            self.model.load_state_dict(own)
        self._stop_if_asked(start)
        return self.processes.sum(logits)

    def _weights_to_judge(self) -> dict[str, Tensor]:
        return self.average.state if self.average is not None else self.model.state_dict()

    def _evidence(self, history: list[EpochRecord]) -> Evidence:
        progress = self.progress
        return Evidence(
            class_counts=self.class_counts,
            classes=self.classes.number,
            step_losses=progress.step_losses,
            gradient_norms=progress.gradient_norms,
            first_layer_gradients=progress.first_layer,
            dead_units=progress.dead_units,
            epochs=history,
            on_gpu=self.device.type == "cuda",
        )

    def _ask_to_stop(self) -> None:
        self.stop_asked = True

    def _save(self) -> bool:
        self._write_down()
        if not self.processes.leads:
            return bool(self.checkpoints.place)
        with self.times.part("checkpoint"):
            state = {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": None if self.average is None else self.average.state,
                "updates": 0 if self.average is None else self.average.updates,
                "best": self.best,
                "random": torch.get_rng_state(),
                "times": dict(self.times.seconds),
                "progress": vars(self.progress),
            }
            return self.checkpoints.save(state)

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.best = state["best"]
        if self.average is not None:
            self.average.state = {name: value.to(self.device) for name, value in state["average"].items()}
            self.average.updates = state["updates"]
        self.progress = Progress(**state["progress"])
        self.times.seconds.update(state["times"])  # else the rules would take the time before for idle
        if self.processes.leads:
            print(f"Going on from {self.checkpoints.where}: step {len(self.progress.step_losses)}.", flush=True)
        for record in self.progress.history:
            self.on_epoch(EpochRecord.model_validate(record))
