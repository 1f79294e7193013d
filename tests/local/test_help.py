"""`make help` lists every target once, in groups."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_help_lists_every_target_that_says_what_it_does_once_and_under_a_heading() -> None:
    files = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
    documented = [name for file in files for name in re.findall(r"^([a-z-]+):.*## ", file.read_text(), re.MULTILINE)]
    ended = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    groups = ended.stdout.split("\n\n")
    listed = [line.split()[0] for group in groups for line in group.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(documented)
    assert len(set(listed)) == len(listed)
    for group in groups:
        heading, *targets = group.splitlines()
        assert not heading.startswith(" ")
        assert targets
