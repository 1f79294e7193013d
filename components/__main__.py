"""Say what can be run here: `python -m components`, and what an image answers that was given no argument."""

import argparse
import ast
import runpy
import sys
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


def check() -> None:
    """Have every entry point explain itself: what it imports must be here, and may be read."""
    for name, _ in entry_points():
        sys.argv = [name, "--help"]
        try:
            runpy.run_module(name, run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


def main() -> None:
    """Print the entry points, or check them."""
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    parser.add_argument("--check", action="store_true", help="have each of them print its help")
    if parser.parse_args().check:
        check()
        return
    print("Give the name of what is to run as the first argument; each explains itself with --help.\n")
    for name, purpose in entry_points():
        print(f"  {name:<28} {purpose}")


if __name__ == "__main__":
    main()
