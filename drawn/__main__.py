"""Look at the drawn bins, or write them into a folder: `python -m drawn --help`."""

import argparse
from pathlib import Path

from components.core.errors import reported
from components.core.layout import image_key, metadata_key
from drawn.bins import draw_bins
from drawn.records import write_audit
from drawn.sheet import contact_sheet

SHEET_SUFFIXES = (".png", ".jpg")


def main() -> None:
    """Draw bins as a contact sheet (PNG or JPEG) or as a dataset in a folder."""
    parser = argparse.ArgumentParser(prog="python -m drawn", description="Drawn bins.")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a contact sheet with the counts (.png, .jpg)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write bin-images/ and metadata/ into this folder")
    parser.add_argument("--audit", type=Path, metavar="DIR", help="write photos, records (some wrong) and the truth")
    parser.add_argument("--count", type=int, default=30, help="how many bins (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other bins (default: 0)")
    arguments = parser.parse_args()
    if arguments.sheet is None and arguments.folder is None and arguments.audit is None:
        parser.error("say what to write: --sheet FILE, --folder DIR or --audit DIR")
    if arguments.sheet is not None and arguments.sheet.suffix not in SHEET_SUFFIXES:
        parser.error(f"--sheet takes a file that ends in {' or '.join(SHEET_SUFFIXES)}")
    if arguments.count < 1 or arguments.seed < 0:
        parser.error("--count begins at 1 and --seed at 0")
    with reported():
        if arguments.sheet is not None:
            arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(arguments.count, arguments.seed).save(arguments.sheet)
        if arguments.folder is not None:
            write_folder(arguments.folder, arguments.count, arguments.seed)
        if arguments.audit is not None:
            write_audit(arguments.audit, arguments.count, arguments.seed)


def write_folder(folder: Path, count: int, seed: int) -> None:
    """Write `count` drawn bins in the dataset's layout, ready to be a SOURCE."""
    for drawn in draw_bins(count, seed):
        files = {metadata_key(drawn.image_id): drawn.metadata, image_key(drawn.image_id): drawn.jpeg}
        for key, content in files.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                (folder / key).write_bytes(content)


if __name__ == "__main__":
    main()
