"""The gate's verdict on a model, which deploy obeys."""

from typing import ClassVar

from components.core.registry import Figures
from components.core.stored import Stored


class Verdict(Stored):
    """Whether `version` may go into service, and why; `champion` is the version that served then ("" for none).

    `reference` is the version it was compared with, the best of the last that served, on `compared_bins` test bins that
    none of them was trained on; "" and 0 where the baseline alone decided. `forced` tells that it passes against the
    rules, because the user asked for it; `weak`, that so few test bins show little.
    """

    what: ClassVar[str] = "a verdict"
    remedy: ClassVar[str] = "run gate again"

    passed: bool
    forced: bool
    reason: str
    version: str
    weak: bool = False
    champion: str
    reference: str = ""
    reference_accuracy: float | None = None
    compared_bins: int = 0
    figures: Figures

    @property
    def decision(self) -> str:
        """What the run does next: "deploy" or "keep" (what serves now)."""
        return "deploy" if self.passed else "keep"
