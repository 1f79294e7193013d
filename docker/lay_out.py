"""Lay out the code of one image: lay_out.py IMAGE CHECKOUT TARGET.

Only what the image can run, readable by every user whatever the checkout's modes are, and with byte code that is the
same in every build: Python does not look at the source's time when it runs `unchecked-hash` files.
"""

import compileall
import os
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

from components.core.images import holds

MADE = 315532800  # 1980-01-01, as in wheels


def lay_out(image: str, checkout: Path, target: Path) -> None:
    """Copy the code of `image` from `checkout`/components to `target`/components, and compile it."""
    os.umask(0o022)
    for source in sorted((checkout / "components").rglob("*")):
        relative = source.relative_to(checkout)
        if source.is_file() and holds(image, relative.relative_to("components")):
            copy = target / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    if not compileall.compile_dir(target, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        sys.exit("the code cannot be compiled")
    for path in [target, *target.rglob("*")]:
        os.utime(path, (MADE, MADE))


if __name__ == "__main__":
    lay_out(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
