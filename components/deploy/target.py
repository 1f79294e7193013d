"""What a target of a deploy is: something that can run a version and answer for it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from components.core.registry import GoldenRequest, Registry


@dataclass(frozen=True)
class Candidate:
    """A published version that is to go into service, and the questions it must answer rightly."""

    registry: Registry
    version: str
    golden: list[GoldenRequest]


class Target(Protocol):
    """Where versions run."""

    name: str

    def rollout(self, candidate: Candidate) -> AbstractContextManager[str]:
        """Bring the candidate up, check its answers, and yield where it answers, for people to read.

        When the block inside fails, what served before is put back. Raises UserError with the reason when the candidate
        does not come up or answers wrongly; then nothing has changed either.
        """
