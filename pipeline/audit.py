"""`make audit`: which bins to recount, by the version in service, another one, or a folder."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET
from components.core.place import is_address
from pipeline.local_store import HOME
from pipeline.serve import folder_of

TERMS = ("budget", "cost", "value", "error-rate", "seed")  # handed on as they are; the step checks them


def main() -> None:
    """Find the model, say which it is, and run the step."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.audit", description=__doc__)
    parser.add_argument("--photos", default="", help="a folder of photos, or s3://bucket/prefix")
    parser.add_argument("--records", default="", help="a table of what is on record")
    parser.add_argument("--version", default="", help="a version of the registry; the one in service if not given")
    parser.add_argument("--model", default="", help="a folder instead, such as .local/latest/model")
    parser.add_argument("--out", default="", help="folder for what is written; .local/audit")
    for term in TERMS:
        parser.add_argument(f"--{term}", default="")
    given = parser.parse_args()
    with reported():
        for name, value in (("PHOTOS", given.photos), ("RECORDS", given.records)):
            if not value:
                raise UserError(
                    f"{name} is missing: make audit PHOTOS=<folder or s3://…> RECORDS=<table of photos and quantities>."
                )
        if not Path(given.records).is_file():
            raise UserError(f"RECORDS={given.records}: there is no such file; give a CSV, TSV, Parquet or JSON table.")
        if not is_address(given.photos) and not Path(given.photos).is_dir():
            raise UserError(f"PHOTOS={given.photos}: there is no such folder; give a folder of photos, or s3://….")
        model = folder_of(given.version, given.model, "Judged by")
        terms = [f"--{term}={value}" for term in TERMS if (value := getattr(given, term.replace("-", "_")))]
        step = [sys.executable, "-m", "components.audit", f"--bundle={model}", f"--photos={given.photos}"]
        step += [f"--records={given.records}", f"--out={given.out or HOME / 'audit'}", *terms]
        # Buckets are those of this machine's store, unless the environment names another.
        has_store = bool(os.environ.get("AWS_ENDPOINT_URL")) or (HOME / "store").is_dir()
        step += [f"--recounts=s3://{DATA_BUCKET}"] if has_store else []
        with_store = has_store or is_address(given.photos)
        store = [sys.executable, "-m", "pipeline.with_store"] if with_store else []
        sys.exit(subprocess.run([*store, *step], check=False).returncode)


if __name__ == "__main__":
    main()
