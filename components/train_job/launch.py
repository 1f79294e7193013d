"""Train in the pods of a TrainJob: create it, follow it, pass on its log and its failure, bring back what it made."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.cluster import AwayError, Object
from components.core.errors import UserError
from components.core.pods import cannot_start, condition, container_states, unschedulable
from components.train_job.exchange import Exchange, fingerprint
from components.train_job.jobs import Jobs
from components.train_job.manifest import Pool, train_job

POLL_SECONDS = 10.0
# A pod that no node takes: time for an autoscaler to bring one, then the reason is an error.
UNSCHEDULABLE_SECONDS = 900.0
PULL_SECONDS = 180.0
PATIENCE_SECONDS = 600.0  # with an API server that is away
TRAINING = ("weights", "study", "max_count", "seed")


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    poll: float = POLL_SECONDS
    unschedulable: float = UNSCHEDULABLE_SECONDS
    pull: float = PULL_SECONDS
    api: float = PATIENCE_SECONDS


def launch_from_component(given: dict[str, Any]) -> None:
    """Launch with the parameters of the component as KFP hands them over."""
    pool = Pool(
        image=given["image"],
        nodes=given["nodes"],
        accelerator_type=given["accelerator_type"],
        accelerator_count=int(given["accelerator_count"]),
        node_selector=given["node_selector"],
        tolerations=given["tolerations"],
        cpu=given["cpu"],
        memory=given["memory"],
        shm_size=given["shm_size"],
        timeout=given["timeout"],
        queue=given["queue"],
    )
    inputs = {name: Path(given[name].path) for name in ("shard_index", "splits")}
    outputs = {name: Path(given[name].path) for name in ("bundle", "report", "curves")}
    launch(Jobs.connect(), inputs, outputs, training_arguments(given), pool, given["data_uri"])


def training_arguments(given: dict[str, Any]) -> list[str]:
    """The command line of components.train for the parameters of the component."""
    words = [f"--{name.replace('_', '-')}={given[name]}" for name in TRAINING]
    return [f"--whole-recipe={given['recipe']}", *words, f"--checkpoints={given['data_uri']}"]


def launch(
    jobs: Jobs,
    inputs: dict[str, Path],
    outputs: dict[str, Path],
    arguments: list[str],
    pool: Pool,
    data_uri: str,
    patience: Patience | None = None,
) -> None:
    """Train and write `outputs`. Launched again with the same inputs it goes on with the job that is there.

    Raises UserError with the pods' own reason when training fails, and when no pod can start.
    """
    exchange = Exchange(data_uri, fingerprint(arguments, pool.image, inputs))
    name = f"bin-counter-{exchange.fingerprint[:12]}"
    follower = Follower(jobs, name, patience or Patience())
    if not exchange.done():
        exchange.put_inputs(inputs)
        words = ["--data-uri", data_uri, "--job", exchange.fingerprint, "--", *arguments]
        created = follower.patiently(lambda: jobs.create(train_job(name, pool, words)))
        print(f"TrainJob {name}: {'created' if created else 'was there already, following it'}", flush=True)
        try:
            follower.follow()
        finally:
            # Done, failed or hopeless: in each case the GPUs are for others now.
            follower.patiently(lambda: jobs.delete(name))
    exchange.get_outputs(outputs)


@dataclass
class Follower:
    """What was seen of a TrainJob so far."""

    jobs: Jobs
    name: str
    patience: Patience
    printed: dict[str, str] = field(default_factory=dict)  # time of the last line by pod
    since: dict[str, float] = field(default_factory=dict)  # when a trouble was first seen
    said: str = ""

    def follow(self) -> None:
        """Wait for the end. Raises UserError when it is not a good one."""
        while True:
            job = self.patiently(lambda: self.jobs.get(self.name))
            if job is None:
                raise UserError(f"The TrainJob {self.name} was deleted while it ran; run again, it goes on from there.")
            pods = self.patiently(lambda: self.jobs.pods(self.name))
            self._pass_on_logs(pods)
            if condition(job, "Complete").get("status") == "True":
                return
            if (failed := condition(job, "Failed")).get("status") == "True":
                raise UserError(self._failure(pods, failed))
            self._check_start(pods)
            time.sleep(self.patience.poll)

    def patiently(self, call: Any) -> Any:
        """Call the API, again while it is away."""
        until = time.monotonic() + self.patience.api
        while True:
            try:
                return call()
            except AwayError as error:
                if time.monotonic() > until:
                    raise UserError(f"The TrainJob {self.name} cannot be followed any more: {error}") from error
                time.sleep(min(self.patience.poll, 5))

    def _pass_on_logs(self, pods: list[Object]) -> None:
        """Print the new lines of the first pod; the others say the same."""
        for pod in pods[:1]:
            if pod["status"].get("phase") == "Pending":
                continue
            identity = pod["metadata"]["uid"]
            last = self.printed.get(identity, "")
            for line in self.jobs.log(pod["metadata"]["name"]):
                moment, _, text = line.partition(" ")
                if moment > last:
                    print(text, flush=True)
                    self.printed[identity] = moment

    def _check_start(self, pods: list[Object]) -> None:
        """Say what keeps pods from starting, once; raise UserError when it lasts."""
        trouble = _trouble(pods)
        if trouble is None:
            self.since.clear()
            return
        kind, message = trouble
        if message != self.said:
            self.said = message
            print(f"waiting: {message}", flush=True)
        waited = time.monotonic() - self.since.setdefault(kind, time.monotonic())
        if kind == "pull" and waited > self.patience.pull:
            raise UserError(
                f"The training image cannot be started ({message}); check REGISTRY and TAG, that it was "
                "pushed, and the pull secret."
            )
        if kind == "schedule" and waited > self.patience.unschedulable:
            raise UserError(
                f"No node fits the training pods ({message}); check ACCELERATOR_TYPE, GPU_NODE_SELECTOR, "
                "GPU_TOLERATIONS, TRAIN_CPU and TRAIN_MEMORY against the GPU pool."
            )

    def _failure(self, pods: list[Object], failed: Object) -> str:
        for status in (status for pod in pods for status in container_states(pod)):
            ended = status.get("state", {}).get("terminated") or {}
            if ended.get("exitCode") and ended.get("message"):
                return str(ended["message"]).strip()
            if ended.get("reason") == "OOMKilled":
                return "Training ran out of memory; give more TRAIN_MEMORY, or a smaller batch_size in OVERRIDES."
        said = failed.get("message") or failed.get("reason") or "no reason given"
        return f"Training failed ({said.strip().rstrip('.')}); the log above says where."


def _trouble(pods: list[Object]) -> tuple[str, str] | None:
    """What keeps a pod from starting: its kind and a message; None when all run or have run."""
    for pod in pods:
        if (message := unschedulable(pod)) is not None:
            return "schedule", message
        for container, reason, message in cannot_start(pod):
            return "pull", f"{reason}: {message or container['image']}"
    return None
