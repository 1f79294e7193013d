"""How many wrong records an audit of drawn bins finds. `make bench-audit`.

    python -m benchmarks.audit --model .local/latest/model

Draws the bins of `make drawn-audit`, 5 % of whose records are wrong, audits them as a user would, and looks the list up
in the truth. Written to results/audit.json and results/audit.md.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from pydantic import BaseModel

from benchmarks.machine import machine
from benchmarks.tables import markdown_table, write_results
from components.core.bundle import bundle_version
from drawn.records import write_audit

BINS, SEED, BUDGET = 1000, 1, 100  # as in `make drawn-audit` and in README


class Found(BaseModel):
    """What the list held: bins with photo and record, wrong records among all and among the first recounts."""

    machine: str
    day: str
    model_version: str
    bins: int
    wrong: int
    ranked: int
    ranked_wrong: int
    random: int
    random_wrong: int

    @property
    def by_chance(self) -> float:
        """Wrong records that as many recounts in any order would find."""
        return self.wrong * self.ranked / self.bins


def measure(model: Path, folder: Path) -> Found:
    """Draw, audit, and count. Raises SystemExit when the audit fails."""
    write_audit(folder, BINS, SEED)
    places = [f"--photos={folder / 'photos'}", f"--records={folder / 'records.json'}", f"--out={folder / 'out'}"]
    command = [sys.executable, "-m", "components.audit", f"--bundle={model}", f"--budget={BUDGET}", *places]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("error: the audit failed")
    wrong = {row["file"] for row in _rows(folder / "truth.csv") if row["wrong"] == "1"}
    listed: dict[str, list[bool]] = {"ranked": [], "random": []}
    for row in _rows(folder / "out" / "recount.csv"):
        listed[row["why"]].append(row["file"] in wrong)
    return Found(
        machine=machine(),
        day=date.today().isoformat(),
        model_version=bundle_version(model),
        bins=len(list((folder / "photos").iterdir())),
        wrong=len(wrong),
        ranked=len(listed["ranked"]),
        ranked_wrong=sum(listed["ranked"]),
        random=len(listed["random"]),
        random_wrong=sum(listed["random"]),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def table(found: Found) -> list[str]:
    """The result for people, in Markdown."""
    return [
        "# Wrong records found by an audit of drawn bins",
        "",
        f"`make bench-audit`, {found.machine}, {found.day}, version {found.model_version}: {found.bins:,} drawn bins, "
        f"of whose records {found.wrong} are wrong.",
        "",
        *markdown_table(
            ("recounts", "number:", "wrong records found:", "in any order:"),
            [
                ("ranked", found.ranked, found.ranked_wrong, f"{found.by_chance:.1f}"),
                ("random", found.random, found.random_wrong, f"{found.wrong * found.random / found.bins:.1f}"),
            ],
        ),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path(".local/latest/model"), help="of a bundle")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.model, Path(folder))
    write_results("audit", found.model_dump(mode="json"), table(found))


if __name__ == "__main__":
    main()
