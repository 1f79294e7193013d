"""Where a bucket is, and how it is reached.

Our own store is found through the standard AWS variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION). The public dataset's bucket is read unsigned, at AWS itself or at PUBLIC_SOURCE_ENDPOINT.
"""

import os
from dataclasses import dataclass
from urllib.parse import urlparse

from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET, PUBLIC_SOURCE_REGION

_CREDENTIAL_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


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


@dataclass(frozen=True)
class Access:
    """How a bucket is reached."""

    location: Location
    endpoint: str | None
    region: str
    signed: bool

    @classmethod
    def to(cls, uri: str) -> "Access":
        """Access to the bucket of an `s3://bucket/prefix` address. Raises UserError when credentials are not set."""
        location = Location.parse(uri)
        if location.bucket == PUBLIC_SOURCE_BUCKET:
            return cls(location, os.environ.get("PUBLIC_SOURCE_ENDPOINT"), PUBLIC_SOURCE_REGION, signed=False)
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and not any(os.environ.get(name) for name in _CREDENTIAL_SOURCES):
            raise UserError(f"No credentials for {location}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        return cls(location, endpoint, os.environ.get("AWS_REGION", "us-east-1"), signed=True)
