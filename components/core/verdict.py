"""The gate's verdict on a model, which deploy obeys."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import UserError
from components.core.registry import Figures


class Verdict(BaseModel):
    """Whether `version` may go into service, and why; `champion` is the version that served then ("" for none).

    `reference` is the version it was compared with, the best of the last that served, on `compared_bins` test bins that
    none of them was trained on; "" and 0 where the baseline alone decided. `forced` tells that it passes against the
    rules, because the user asked for it; `weak`, that so few test bins show little.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    forced: bool
    reason: str
    version: str
    weak: bool
    champion: str
    reference: str = ""
    reference_accuracy: float | None = None
    compared_bins: int = 0
    figures: Figures

    @property
    def decision(self) -> str:
        """What the run does next: "deploy" or "keep" (what serves now)."""
        return "deploy" if self.passed else "keep"

    def write(self, path: Path) -> None:
        """Write it as JSON, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Verdict":
        """Read it back. Raises UserError when the file is missing or not a verdict."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise UserError(f"There is no verdict at {path} that can be read; run gate again.") from error
