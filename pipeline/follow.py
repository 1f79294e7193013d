"""Follow a run on a cluster in the terminal, step by step, to its end."""

import os
import time
from dataclasses import dataclass, field

from components.core.errors import UserError
from components.core.registry import Registry
from components.core.run_tree import State, Step
from components.core.runs_api import ApiAwayError, NotLetInError, Run, RunsApi
from pipeline.connection import COOKIES_VARIABLE, TOKEN_VARIABLE, Server
from pipeline.resources import STEPS

POLL_SECONDS = 5.0
# A laptop's connection may be away for a while; the run goes on without it.
PATIENCE_SECONDS = 300.0
# A pool that has to be scaled up first takes minutes; what has not started by then may never.
START_TIMEOUT_SECONDS = 1200.0
NAMES = {name.replace("_", "-") for name in STEPS}


@dataclass(frozen=True)
class Patience:
    """Seconds between two looks at the run, of waiting for an API that is away, and of waiting for a step to start."""

    poll: float = POLL_SECONDS
    away: float = PATIENCE_SECONDS
    start: float = START_TIMEOUT_SECONDS


def follow(server: Server, run_id: str, patience: Patience | None = None) -> int:
    """Print every change of a step until the run ends; returns 0 if it succeeded, else 1.

    Ctrl-C ends the following, not the run, and so does a step that does not start in time. Raises UserError when KFP
    stays away for minutes, or does not let us in any more.
    """
    return Follower(server, run_id, patience or Patience()).follow()


@dataclass
class Follower:
    """What was printed of a run so far, and since when which step waits."""

    server: Server
    run_id: str
    patience: Patience
    said: dict[tuple[str, ...], str] = field(default_factory=dict)
    waiting: dict[tuple[str, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api = RunsApi(self.server.host, self.server.headers)
        self.address = f"{self.server.host}/#/runs/details/{self.run_id}"

    def follow(self) -> int:
        """Look at the run again and again, to its end."""
        try:
            while True:
                run = self._look()
                for step in run.steps:
                    self._say(step)
                if run.ended:
                    return self._end(run)
                if late := self._late(run):
                    print(self._given_up(late))
                    return 1
                time.sleep(self.patience.poll)
        except KeyboardInterrupt:
            print(f"\nNo longer following; the run goes on: {self.address}")
            return 130

    def _look(self) -> Run:
        until = time.monotonic() + self.patience.away
        while True:
            try:
                return self.api.run(self.run_id)
            except NotLetInError as error:
                raise UserError(
                    f"{error} Renew {TOKEN_VARIABLE} or {COOKIES_VARIABLE}; the run goes on: {self.address}"
                ) from error
            except ApiAwayError as error:
                if time.monotonic() > until:
                    raise UserError(f"{error} The run goes on: {self.address}") from error
                time.sleep(self.patience.poll)

    def _say(self, step: Step) -> None:
        """Print what is new about a step: its state, why it waits, that an attempt was lost."""
        if step.name not in NAMES and not (step.by_driver and step.message):
            return
        told = f"{step.state} {step.message}{len(step.lost)}"
        if self.said.get(step.path) == told:
            return
        self.said[step.path] = told
        what = f"{step.state}{self._because(step)}"
        again = f" (attempt {len(step.lost) + 1}; before: {step.lost[-1]})" if step.lost else ""
        print(f"  {step.name:18} {what}{again}", flush=True)

    @staticmethod
    def _because(step: Step) -> str:
        if not step.message:
            return ""
        return f" {step.message}" if step.message.startswith("for ") else f": {step.message}"

    def _late(self, run: Run) -> Step | None:
        """A step that has waited for too long."""
        now = time.monotonic()
        waiting = {step.path: step for step in run.steps if step.state is State.WAITS}
        self.waiting = {path: self.waiting.get(path, now) for path in waiting}
        late = [waiting[path] for path, since in self.waiting.items() if now - since >= self.patience.start]
        return late[0] if late else None

    def _given_up(self, step: Step) -> str:
        return (
            f"{step.name} has waited {self.patience.start / 60:.0f} minutes{self._because(step)}.\n"
            "No longer following. The run was left as it is: it goes on as soon as the pod can start, and Terminate on "
            "its page ends it. For training compare PRESET, ACCELERATOR_TYPE, GPU_NODE_SELECTOR, TRAIN_CPU and "
            f"TRAIN_MEMORY with the nodes; START_TIMEOUT waits longer.\n{self.address}"
        )

    def _end(self, run: Run) -> int:
        ending = self.api.ending(self.run_id, run)
        print(f"{ending.told()}{f' {_figures(run)}' if ending.good else ''}\n{self.address}")
        return 0 if ending.good else 1


def _figures(run: Run) -> str:
    """What is in service now, where the models' bucket can be read from here."""
    elsewhere = "Its figures are in the outputs of evaluate and summarise, on the run's page."
    if "AWS_ENDPOINT_URL" not in os.environ:
        return elsewhere
    try:
        current = Registry.open(str(run.parameters.get("models_uri", "s3://models"))).current()
    except UserError:
        return elsewhere
    return f"In service: {current.told()}." if current else "No model is in service."
