"""Make our own buckets where they are missing: `python -m components.core.buckets`, a Job in manifests/store.

With `store`, which reads and writes, the only modules that hold an S3 client.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider, StaticProvider
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from components.core.credentials import session_for
from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET, MODELS_BUCKET, SOURCE_BUCKET
from components.core.location import Access

WAIT_SECONDS = 300.0
PAUSE_SECONDS = 2.0
TIMEOUT_SECONDS = 20.0


def make_buckets(names: list[str], wait_seconds: float = WAIT_SECONDS) -> list[str]:
    """Create those of `names` that are missing, and return them; waits for a store that is just starting.

    The store is found as `components.core.location` says. Raises UserError when it does not answer or refuses.
    """
    access = Access.to(f"s3://{names[0]}")
    if access.endpoint is None:
        raise UserError("AWS_ENDPOINT_URL is not set; it comes from the config map bin-counter-store.")
    client = _client(access.endpoint, _SessionProvider(access), access.region, access.ca_bundle)
    until = time.monotonic() + wait_seconds
    while True:
        try:
            return _make_missing(client, names)
        except S3Error as error:
            if error.code not in ("ServiceUnavailable", "InternalError") or time.monotonic() > until:
                raise UserError(
                    f"The store refused to make the buckets ({error.code}); check the keys in the secret "
                    "bin-counter-store, and that they may create buckets."
                ) from error
        except HTTPError as error:
            if "certificate" in str(error).lower():
                raise UserError(
                    f"The certificate of the store at {access.endpoint} is not trusted; name the file with its "
                    "authority in SSL_CERT_FILE."
                ) from error
            if time.monotonic() > until:
                raise UserError(
                    f"The store at {access.endpoint} cannot be reached; check AWS_ENDPOINT_URL in the "
                    "config map bin-counter-store, and that the store runs."
                ) from error
        time.sleep(PAUSE_SECONDS)


def make_buckets_with_keys(names: Sequence[str], endpoint: str, region: str, access_key: str, secret_key: str) -> None:
    """The same in a store that runs and whose keys are at hand."""
    _make_missing(_client(endpoint, StaticProvider(access_key, secret_key), region), names)


def _make_missing(client: Minio, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if not client.bucket_exists(bucket_name=name)]
    for name in missing:
        client.make_bucket(bucket_name=name)
    return missing


class _SessionProvider(Provider):
    """Hands the credentials that every other client has to minio."""

    def __init__(self, access: Access) -> None:
        self._session = session_for(access)

    def retrieve(self) -> Credentials:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise UserError("The credentials for the store have gone; set them again.")
        frozen = credentials.get_frozen_credentials()
        return Credentials(frozen.access_key or "", frozen.secret_key or "", session_token=frozen.token)


def _client(endpoint: str, provider: Provider, region: str, ca_bundle: Path | None = None) -> Minio:
    address = urlsplit(endpoint)
    return Minio(
        endpoint=address.netloc,
        credentials=provider,
        region=region,
        secure=address.scheme == "https",
        # The client's own pool tries for minutes by itself; how long to wait is ours to say.
        http_client=urllib3.PoolManager(
            timeout=TIMEOUT_SECONDS, retries=False, ca_certs=str(ca_bundle) if ca_bundle else None
        ),
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
