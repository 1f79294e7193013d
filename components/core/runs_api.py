"""The API of Kubeflow Pipelines as far as it tells how a run went, over plain HTTP, and what that comes to."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import urllib3

from components.core.errors import UserError
from components.core.location import ca_bundle
from components.core.run_tree import WORDLESS, State, Step, read_steps

IN_CLUSTER_HOST = "http://ml-pipeline.kubeflow.svc:8888"
TOKEN_AUDIENCE = "pipelines.kubeflow.org"  # noqa: S105 - whom a token is for
TIMEOUT = urllib3.Timeout(connect=5, read=30)
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
# The steps that decide how a good run ended.
FIRST, AFTER_NEWS, GATE, DEPLOY = "champion", "ingest-metadata", "gate", "deploy"
_DRIVER_SAYS = re.compile(r"KFP driver: (.+)")
# What there is of a step that ended without a sentence: a traceback's last line, or why KFP's launcher gave it up.
_LOG_SAYS = re.compile(
    r"^([A-Za-z_][\w.]*(?:Error|Exception)\b.*)$|failed to execute component: (?!exit status)(.+)$", re.MULTILINE
)
_GATE_SAYS = re.compile(r"^gate: (?:deploy|keep)\. (.+)$", re.MULTILINE)


class ApiAwayError(UserError):
    """KFP's API did not answer, or only with an error of its own."""


class NotLetInError(UserError):
    """KFP's API does not accept our credentials (401, 403, or a page to log in)."""


class Outcome(StrEnum):
    """How a run ended; each is told differently."""

    DEPLOYED = "deployed"
    KEPT = "kept by the gate"
    UNCHANGED = "nothing changed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DRIVER_FAILED = "failed in Kubeflow Pipelines itself"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Ending:
    """An outcome, the step it came from where it is a failure, and that step's sentence; either may be ""."""

    outcome: Outcome
    step: str = ""
    sentence: str = ""

    @property
    def good(self) -> bool:
        """Whether the run did what it was for."""
        return self.outcome not in (Outcome.FAILED, Outcome.DRIVER_FAILED, Outcome.CANCELLED)

    def told(self) -> str:
        """A sentence for people."""
        reason = self.sentence.strip().rstrip(".")
        why = f": {reason}." if reason else "; its log on the run's page says why."
        where = f" in {self.step}" if self.step else ""
        return {
            Outcome.DEPLOYED: f"The run succeeded, and its model was deployed{f': {reason}' if reason else ''}.",
            Outcome.KEPT: f"The run succeeded, and the gate did not let its model through{why}",
            Outcome.UNCHANGED: "The run succeeded: nothing changed since the version in service was made.",
            Outcome.SUCCEEDED: "The run succeeded.",
            Outcome.FAILED: f"The run FAILED{where}{why}",
            Outcome.DRIVER_FAILED: f"The run FAILED in Kubeflow Pipelines' own driver, before {self.step} began{why}",
            Outcome.CANCELLED: f"The run was cancelled{where}.",
        }[self.outcome]


@dataclass(frozen=True)
class Run:
    """A run as KFP tells it: its state, its parameters, whether someone ended it, and its steps as Argo tells them."""

    state: str
    parameters: dict[str, Any]
    cancelled: bool
    message: str
    steps: list[Step]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    def step(self, name: str) -> Step | None:
        """The last step of that name."""
        return next((step for step in reversed(self.steps) if step.name == name), None)

    def ending(self) -> Ending:
        """What the run came to, once it ended or all but its last step has."""
        failed = sorted((step for step in self.steps if step.state is State.FAILED), key=lambda step: step.finished)
        if self.cancelled or self.state == "CANCELED":
            return Ending(Outcome.CANCELLED, failed[0].name if failed else "")
        if failed:
            outcome = Outcome.DRIVER_FAILED if failed[0].by_driver else Outcome.FAILED
            return Ending(outcome, failed[0].name, failed[0].message)
        if self.state == "FAILED":
            return Ending(Outcome.FAILED, "", self.message)
        return Ending(self._good_end())

    def _good_end(self) -> Outcome:
        deploy, gate, first = (self.step(name) for name in (DEPLOY, GATE, FIRST))
        if deploy and deploy.state is State.DONE:
            return Outcome.DEPLOYED
        if gate and gate.state in (State.DONE, State.CACHED):
            return Outcome.KEPT
        if first and first.state is State.DONE and self.step(AFTER_NEWS) is None:
            return Outcome.UNCHANGED
        return Outcome.SUCCEEDED


class RunsApi:
    """The runs of one KFP. Methods raise ApiAwayError for what may be asked again, and NotLetInError."""

    def __init__(self, host: str, headers: Callable[[], dict[str, str]] = dict) -> None:
        self.host = host.rstrip("/")
        self._headers = headers
        authority = ca_bundle()
        self._pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False, ca_certs=str(authority) if authority else None)

    def run(self, run_id: str) -> Run:
        """A run as it is now. Raises UserError when there is no such run."""
        told = self._get(f"/apis/v2beta1/runs/{run_id}")
        runtime = self._get(f"/apis/v1beta1/runs/{run_id}").get("pipeline_runtime") or {}
        workflow = json.loads(runtime.get("workflow_manifest") or "{}")
        history = [str(one.get("state")) for one in told.get("state_history") or []]
        return Run(
            state=str(told.get("state", "")),
            parameters=(told.get("runtime_config") or {}).get("parameters") or {},
            cancelled="CANCELING" in history,
            message=str((workflow.get("status") or {}).get("message") or ""),
            steps=read_steps(workflow),
        )

    def log(self, run_id: str, pod: str) -> str:
        """What a pod of a run has written, as far as KFP still has it; "" if not.

        The API server and the web page in front of it have different addresses for that.
        """
        for path in (f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", f"/k8s/pod/logs?podname={pod}&runid={run_id}"):
            try:
                answer = self._pool.request("GET", self.host + path, headers=self._headers(), redirect=False)
            except urllib3.exceptions.HTTPError:
                return ""
            text = answer.data.decode(errors="replace")
            if answer.status == 200 and not text.lstrip().startswith(("<", '{"error')):
                return text
        return ""

    def ending(self, run_id: str, run: Run) -> Ending:
        """How the run ended, with what only a log has: the verdict, the driver's reason, the end of a traceback."""
        ending = run.ending()
        name, pattern = {
            Outcome.DEPLOYED: (GATE, _GATE_SAYS),
            Outcome.KEPT: (GATE, _GATE_SAYS),
            Outcome.DRIVER_FAILED: (ending.step, _DRIVER_SAYS),
            Outcome.FAILED: (ending.step if WORDLESS in ending.sentence else "", _LOG_SAYS),
        }.get(ending.outcome, ("", _GATE_SAYS))
        step = run.step(name)
        if step is None or step.state is State.CACHED:
            return ending
        said = list(pattern.finditer(self.log(run_id, step.pod)))
        return replace(ending, sentence=said[-1][said[-1].lastindex or 0].strip()[:300]) if said else ending

    def _get(self, path: str) -> dict[str, Any]:
        try:
            answer = self._pool.request("GET", self.host + path, headers=self._headers(), redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise ApiAwayError(f"KFP at {self.host} cannot be reached ({type(error).__name__}).") from error
        if answer.status in (301, 302, 303, 307, 401, 403):
            raise NotLetInError(
                f"KFP at {self.host} does not let us in any more (status {answer.status}{_reason(answer.data)})."
            )
        if answer.status == 404:
            raise UserError(f"KFP at {self.host} does not know {path} (status 404{_reason(answer.data)}).")
        try:
            found = json.loads(answer.data)
        except ValueError:
            found = None
        if answer.status != 200 or not isinstance(found, dict):
            raise ApiAwayError(f"KFP at {self.host} answers {path} with status {answer.status}{_reason(answer.data)}.")
        return found


def _reason(body: bytes) -> str:
    try:
        return f": {str(json.loads(body)['message']).strip().rstrip('.')[:200]}"
    except (ValueError, KeyError, TypeError):
        return ""
