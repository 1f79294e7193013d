"""Make our own buckets where they are missing: `python -m components.core.buckets`, a Job in manifests/store."""

import argparse
import os
import time
from urllib.parse import urlparse

from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET, MODELS_BUCKET, SOURCE_BUCKET

WAIT_SECONDS = 300.0
PAUSE_SECONDS = 2.0


def make_buckets(names: list[str], wait_seconds: float = WAIT_SECONDS) -> list[str]:
    """Create those of `names` that are missing, and return them; waits for a store that is just starting.

    The store is found through the AWS_* variables. Raises UserError when it does not answer or refuses.
    """
    client = _client()
    until = time.monotonic() + wait_seconds
    while True:
        try:
            made = [name for name in names if not client.bucket_exists(bucket_name=name)]
            for name in made:
                client.make_bucket(bucket_name=name)
            return made
        except S3Error as error:
            if error.code not in ("ServiceUnavailable", "InternalError") or time.monotonic() > until:
                raise UserError(
                    f"The store refused to make the buckets ({error.code}); check the keys in the secret "
                    "bin-counter-store, and that they may create buckets."
                ) from error
        except HTTPError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"The store at {os.environ['AWS_ENDPOINT_URL']} cannot be reached; check AWS_ENDPOINT_URL in the "
                    "config map bin-counter-store, and that the store runs."
                ) from error
        time.sleep(PAUSE_SECONDS)


def _client() -> Minio:
    missing = [
        name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not os.environ.get(name)
    ]
    if missing:
        raise UserError(f"{missing[0]} is not set; it comes from the secret or the config map bin-counter-store.")
    address = urlparse(os.environ["AWS_ENDPOINT_URL"])
    return Minio(
        endpoint=address.netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ.get("AWS_REGION", "us-east-1"),
        secure=address.scheme == "https",
    )


def main() -> None:
    """Read the arguments and make the buckets."""
    parser = argparse.ArgumentParser(prog="python -m components.core.buckets", description=__doc__)
    ours = [SOURCE_BUCKET, DATA_BUCKET, MODELS_BUCKET]
    parser.add_argument("names", nargs="*", default=ours, help="buckets (default: our three)")
    names = parser.parse_args().names
    with reported():
        made = make_buckets(names)
        print(f"made {', '.join(made)}" if made else f"{', '.join(names)}: already there")


if __name__ == "__main__":
    main()
