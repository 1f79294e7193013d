"""Where a bucket is, and how it is reached.

Our own store is found through the standard AWS variables: AWS_ENDPOINT_URL, AWS_REGION (or AWS_DEFAULT_REGION), and
credentials in any form that boto3 finds. SSL_CERT_FILE (or AWS_CA_BUNDLE) names a private certificate authority. The
public dataset's bucket is read unsigned, at AWS itself or at PUBLIC_SOURCE_ENDPOINT.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET, PUBLIC_SOURCE_REGION
from components.core.ports import ask_loopback_directly

DEFAULT_REGION = "us-east-1"
CA_VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE")
_S3_BY_ANOTHER_NAME = {
    "gs": "Google Cloud Storage has an S3 interface: make HMAC keys there, set AWS_ENDPOINT_URL to its XML API and "
    "write s3://{rest}",
    "az": "Azure has no S3 interface: copy the bins to an S3 store, or put an S3 gateway in front",
}
_S3_BY_ANOTHER_NAME |= {"abfs": _S3_BY_ANOTHER_NAME["az"], "abfss": _S3_BY_ANOTHER_NAME["az"]}


@dataclass(frozen=True)
class Location:
    """A bucket and a key prefix, written `s3://bucket/prefix`."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, uri: str) -> "Location":
        """Read `s3://bucket[/prefix]`. Raises UserError for anything else."""
        parts = urlsplit(uri)
        if parts.scheme in _S3_BY_ANOTHER_NAME:
            hint = _S3_BY_ANOTHER_NAME[parts.scheme].format(rest=f"{parts.netloc}{parts.path}")
            raise UserError(f"'{uri}' is not an S3 address. {hint}.")
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"'{uri}' is not an S3 address; write it as s3://bucket or s3://bucket/prefix.")
        return cls(parts.netloc, parts.path.strip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


@dataclass(frozen=True)
class Access:
    """How a bucket is reached; `endpoint` is None for AWS itself, `ca_bundle` where no private authority is named."""

    location: Location
    endpoint: str | None
    region: str
    signed: bool
    ca_bundle: Path | None = None

    @classmethod
    def to(cls, uri: str) -> "Access":
        """Access to the bucket of an `s3://bucket/prefix` address. Raises UserError for a setting that cannot be."""
        location = Location.parse(uri)
        if location.bucket == PUBLIC_SOURCE_BUCKET:
            endpoint = endpoint_from("PUBLIC_SOURCE_ENDPOINT")
            return cls(location, endpoint, PUBLIC_SOURCE_REGION, signed=False, ca_bundle=ca_bundle())
        return cls(location, endpoint_from("AWS_ENDPOINT_URL"), region(), signed=True, ca_bundle=ca_bundle())


def endpoint_from(variable: str) -> str | None:
    """A store's address from the environment, None where it is not set. Raises UserError for another form."""
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    ask_loopback_directly()
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError(
            f"{variable}={value} is not an address; it should begin with http:// or https://, as in http://{_host(value)}."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _host(value: str) -> str:
    """What is left of an address that cannot be used, for the example in the sentence."""
    bare = value.rpartition("://")[2].strip("/")
    return bare if bare and not set(bare) & set(" \t\\") else "host:8333"


def region() -> str:
    """The region to sign for."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


def ca_bundle() -> Path | None:
    """The file with a private certificate authority. Raises UserError when it cannot be read."""
    for variable in CA_VARIABLES:
        if value := os.environ.get(variable):
            path = Path(value)
            if not path.is_file() or not os.access(path, os.R_OK):
                raise UserError(f"{variable}={value} cannot be read; name a file of certificates in PEM form.")
            return path
    return None
