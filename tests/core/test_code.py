"""What made the contents of a cache is part of its key: code that makes other contents, and no more than that."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODULES = {
    "made": '''
        """What the tests change."""
        import numpy as np
        from components.shape import SIDE, squash as shrink  # not components.other

        LIMIT = 10

        def decode(data: bytes, size: int) -> bytes:
            """Decode."""
            # A comment.
            return shrink(_opened(data), size)

        def _opened(data):
            return data[:LIMIT]

        def unrelated():
            return 1
    ''',
    "shape": '''
        from components.colour import Colour

        SIDE = 4

        def squash(data, size):
            """Resize."""
            return data[:size] + Colour.of(data)

        def stretch(data, size):
            return data[:size] * 2
    ''',
    "colour": '''
        class Colour:
            """A colour."""

            @staticmethod
            def of(data):
                """Its bytes."""
                return b"red"
    ''',
}


@pytest.fixture
def digest(tmp_path: Path) -> Callable[..., str]:
    """The digest of `decode` with words of a module replaced."""
    package = tmp_path / "components"  # a small project of its own beside a copy of the code under test
    (package / "core").mkdir(parents=True)
    (package / "core" / "code.py").write_bytes((ROOT / "components" / "core" / "code.py").read_bytes())

    def after(module: str = "made", old: str = "", new: str = "") -> str:
        for name, text in MODULES.items():
            text = textwrap.dedent(text)
            assert name != module or old in text
            (package / f"{name}.py").write_text(text.replace(old, new) if name == module and old else text)
        program = "from components.core.code import code_digest; from components.made import decode; "
        command = [sys.executable, "-B", "-c", program + "print(code_digest(decode))"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    return after


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("made", "A comment", "Another comment"),
        ("made", '"""Decode."""', '"""Decode a photo."""'),
        ("made", '"""What the tests change."""', ""),
        ("made", "data: bytes, size: int", "data, size"),
        ("made", "return 1", "return 2"),
        ("made", "(_opened(data), size)", "(\n        _opened(data), size\n    )"),
        ("shape", '"""Resize."""', ""),
        ("shape", "SIDE = 4", "SIDE = 5"),
        ("made", "import SIDE, squash", "import squash"),
        ("colour", '"""A colour."""', '"""A hue."""'),
    ],
)
def test_what_makes_nothing_else_changes_no_digest(digest: Callable[..., str], module: str, old: str, new: str) -> None:
    assert digest(module, old, new) == digest()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("made", "_opened(data), size", "_opened(data), size + 1"),
        ("made", "LIMIT = 10", "LIMIT = 11"),
        ("made", "data[:LIMIT]", "data[1:LIMIT]"),
        ("made", "SIDE, squash as shrink", "SIDE, stretch as shrink"),
        ("shape", "data[:size]", "data[-size:]"),
        ("colour", 'b"red"', 'b"blue"'),
    ],
)
def test_what_makes_something_else_changes_the_digest(
    digest: Callable[..., str], module: str, old: str, new: str
) -> None:
    assert digest(module, old, new) != digest()
