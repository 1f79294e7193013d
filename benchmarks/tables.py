"""Tables of results: JSON for programs, Markdown for people."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from components.core.files import write_whole

RESULTS = Path(__file__).parent / "results"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table. A column whose name ends in a colon is one of numbers."""
    names = [column.removesuffix(":") for column in columns]
    rules = ["---:" if column.endswith(":") else "---" for column in columns]
    return [_row(names), _row(rules), *(_row(row) for row in rows)]


def told(met: bool | None) -> str:
    """Whether a goal was reached; a missed one stands out. None where there is no goal or no measurement."""
    return "" if met is None else "met" if met else "**missed**"


def write_results(name: str, content: object, lines: Sequence[str], folder: Path = RESULTS) -> None:
    """Write `name`.json and `name`.md, each whole."""
    write_whole(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / f"{name}.md", "\n".join(lines).rstrip("\n") + "\n")
    print(f"written: {folder / f'{name}.md'}")


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
