"""The gate's verdict on a model, which deploy obeys."""

from typing import ClassVar

from components.core.registry import Figures
from components.core.stored import Stored


class Verdict(Stored):
    """Whether `version` may go into service, and why; `champion` is the version it was compared with ("" for none).

    `forced` tells that it passes against the rules, because the user asked for it.
    """

    what: ClassVar[str] = "a verdict"
    remedy: ClassVar[str] = "run gate again"

    passed: bool
    forced: bool
    reason: str
    version: str
    champion: str
    champion_accuracy: float | None = None
    figures: Figures

    @property
    def decision(self) -> str:
        """What the run does next: "deploy" or "keep" (what serves now)."""
        return "deploy" if self.passed else "keep"
