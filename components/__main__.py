"""Say what can be run here: `python -m components`, and what an image answers that was given no argument."""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def entry_points() -> Iterator[tuple[str, str]]:
    """Each module that can be run, as `components.<name>`, with the first line of its docstring."""
    for path in sorted(HERE.rglob("*.py")):
        if path == Path(__file__) or "__main__" not in path.read_text():
            continue
        tree = ast.parse(path.read_text())
        if any(ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body if isinstance(node, ast.If)):
            parts = path.relative_to(HERE.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__main__" else parts)
            yield name, (ast.get_docstring(tree) or "").partition("\n")[0]


def main() -> None:
    """Print the entry points; with --names their names alone, one a line."""
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    parser.add_argument("--names", action="store_true", help="print the names alone")
    names_only = parser.parse_args().names
    if not names_only:
        print("Give the name of what is to run as the first argument; each explains itself with --help.\n")
    for name, purpose in entry_points():
        print(name if names_only else f"  {name:<28} {purpose}")


if __name__ == "__main__":
    main()
