"""The S3 store: the only module that knows an S3 client.

Our own store is found through the standard AWS variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION). The public dataset's bucket is read unsigned, at AWS itself or at PUBLIC_SOURCE_ENDPOINT.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlparse

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET, PUBLIC_SOURCE_REGION


class ObjectMissing(Exception):
    """The key is not in the bucket."""


class ObjectExists(Exception):
    """A conditional write found that somebody else had written the key before."""


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: full key inside the bucket, size in bytes, ETag without quotes."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Location:
    """A bucket and a key prefix, written `s3://bucket/prefix`."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, uri: str) -> "Location":
        """Read `s3://bucket[/prefix]`. Raises UserError for anything else."""
        parts = urlparse(uri)
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"'{uri}' is not an S3 address; write it as s3://bucket or s3://bucket/prefix.")
        return cls(parts.netloc, parts.path.strip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


class Store:
    """One bucket. All keys are relative to the bucket (or to the prefix it was opened with).

    Every method raises UserError with one sentence when the store cannot be reached or refuses the credentials.
    """

    def __init__(self, location: Location, client: S3Store) -> None:
        self.location = location
        self.client = client

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects under `prefix`, streamed in the store's order; memory does not grow with their number."""
        with _explained(self.location):
            for chunk in obstore.list(self.client, prefix or None, chunk_size=1000):
                for entry in chunk:
                    yield ObjectInfo(entry["path"], entry["size"], (entry["e_tag"] or "").strip('"'))

    def get(self, key: str) -> bytes:
        """All bytes of an object. Raises ObjectMissing."""
        with _explained(self.location):
            return obstore.get(self.client, key).bytes().to_bytes()

    async def get_async(self, key: str) -> bytes:
        """The same, for callers that keep many requests in flight."""
        with _explained(self.location):
            response = await obstore.get_async(self.client, key)
            return (await response.bytes_async()).to_bytes()

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whole or not at all, over what was there."""
        with _explained(self.location):
            obstore.put(self.client, key, data)

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet. Of several writers one wins; the others get ObjectExists."""
        with _explained(self.location):
            obstore.put(self.client, key, data, mode="create")

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        try:
            with _explained(self.location):
                obstore.head(self.client, key)
        except ObjectMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        with _explained(self.location):
            obstore.delete(self.client, key)


def open_store(uri: str) -> Store:
    """Open the bucket of an `s3://bucket/prefix` address.

    The public dataset's bucket is opened unsigned; any other is ours, at AWS_ENDPOINT_URL.
    """
    location = Location.parse(uri)
    public = location.bucket == PUBLIC_SOURCE_BUCKET
    endpoint = os.environ.get("PUBLIC_SOURCE_ENDPOINT" if public else "AWS_ENDPOINT_URL")
    region = PUBLIC_SOURCE_REGION if public else os.environ.get("AWS_REGION", "us-east-1")
    client = S3Store(
        location.bucket,
        prefix=location.prefix or None,
        endpoint=endpoint,
        region=region,
        skip_signature=public,
        virtual_hosted_style_request=endpoint is None,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=5),
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
    )
    return Store(location, client)


class _explained:
    """Context that turns the client's errors into ours."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AlreadyExistsError):
            raise ObjectExists(str(self.location)) from error
        if isinstance(error, NotFoundError | FileNotFoundError):
            if "NoSuchBucket" in str(error):
                raise UserError(
                    f"The bucket '{self.location.bucket}' does not exist; create it or check its name."
                ) from error
            raise ObjectMissing(str(self.location)) from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            raise UserError(
                f"The store refused access to {self.location}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error
        if isinstance(error, BaseError):
            raise UserError(
                f"The store of {self.location} cannot be used ({_first_line(error)}); check AWS_ENDPOINT_URL."
            ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200]
