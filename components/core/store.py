"""The S3 store: reads and writes. With `buckets`, which administers, the only modules that hold an S3 client."""

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from components.core.credentials import session_for
from components.core.errors import UserError
from components.core.location import Access
from components.core.patience import DamagedAnswer, ObjectCorrupt, ObjectExists, ObjectMissing, Patience

if TYPE_CHECKING:
    from obstore.store import ClientConfig

__all__ = ["ObjectCorrupt", "ObjectExists", "ObjectInfo", "ObjectMissing", "Store", "open_store"]

STALL_SECONDS = 20.0  # for one small object
REQUEST_SECONDS = 120.0  # for any request: a shard of 100 MB may take its time
CONNECT_SECONDS = 5.0
PAGE_KEYS = 1000
CONNECTIONS = 64  # of the client that lists, where it has to read as well
# Written once into each bucket of ours to see whether a second writer is refused.
PROBE_KEY = "conditional-write-probe"
PROBE = b"Two writers of one key: the second has to be refused. This object shows whether it is.\n"

T = TypeVar("T")

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: full key inside the bucket, size in bytes, ETag without quotes (empty where none is given)."""

    key: str
    size: int
    etag: str
    modified: str = ""  # ISO 8601

    @property
    def version(self) -> str:
        """What changes when the object does: its ETag, or in stores that give none, the time it was written."""
        return self.etag or self.modified


class Store:
    """One bucket. All keys are relative to the bucket (or to the prefix it was opened with).

    Every method raises UserError with one sentence when the store cannot be reached or refuses the credentials.
    `retries` counts by reason what had to be tried again.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.location = access.location
        self.retries: Counter[str] = Counter()
        self.answered = False
        self.client = _object_client(access, REQUEST_SECONDS)
        self._etags = _Etags()
        self._counting = threading.Lock()
        self._abandoned = threading.Event()
        self._conditions_hold = False

    @cached_property
    def _small_client(self) -> S3Store:
        return _object_client(self.access, STALL_SECONDS)

    @cached_property
    def _aws_client(self) -> Any:
        return _aws_client(self.access)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects under `prefix`, streamed in the store's order; memory does not grow with their number."""
        root = self._full_key("")
        where: dict[str, str] = {}
        while True:
            page = self._persist(partial(self._list_page, root + prefix, where))
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/") or entry["Size"]:  # some stores list folders
                    yield _object_info(entry, root)
            # Both are left out by some stores that have no more to say.
            if not page.get("IsTruncated") or not page.get("NextContinuationToken"):
                return
            where = {"ContinuationToken": page["NextContinuationToken"]}

    def _list_page(self, prefix: str, where: dict[str, str]) -> dict[str, Any]:
        return self._aws_client.list_objects_v2(Bucket=self.location.bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, **where)

    def now(self) -> datetime:
        """The time by the store's clock, which is the one that says when objects were written."""
        page = self._persist(partial(self._list_page, self._full_key(""), {}))
        return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])

    def get(self, key: str) -> bytes:
        """All bytes of an object. Raises ObjectMissing, or ObjectCorrupt when they never match their checksum."""
        return self._persist(partial(self._read, self.client, key))

    def fetch(self, key: str) -> bytes:
        """The same for a small object that is known to be there; for callers with many requests in flight.

        An answer that it is missing is asked for again, and one that stalls is given up sooner.
        """
        return self._persist(lambda: self._read(self._small_client, key), listed=True)

    def abandon(self) -> None:
        """Let requests in other threads end with the attempt they are in: their results are of no use any more."""
        self._abandoned.set()

    def count_retry(self, kind: str) -> None:
        """Remember that something had to be tried again."""
        with self._counting:
            self.retries[kind] += 1

    def put(self, key: str, data: bytes | memoryview | Path) -> str:
        """Write an object, or a file as an object, whole or not at all, over what was there. Returns its ETag."""
        answer = self._persist(lambda: obstore.put(self.client, key, data, use_multipart=False))
        return (answer["e_tag"] or "").strip('"')

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet. Of several writers one wins; the others get ObjectExists.

        Raises UserError in a store that would let them all win.
        """
        self._check_conditions()
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            obstore.put(self.client, key, data, mode="create")

        try:
            self._persist(attempt)
        except ObjectExists:
            # An attempt whose answer was lost may have been the winner.
            if attempts == 1 or self.get(key) != data:
                raise

    def _check_conditions(self) -> None:
        """See once, before it matters, that a second writer of the same key is refused."""
        if self._conditions_hold:
            return
        for _ in range(2):  # the first may find it there from an earlier run
            with suppress(ObjectExists):
                self._persist(lambda: obstore.put(self.client, PROBE_KEY, PROBE, mode="create"))
                continue
            self._conditions_hold = True
            return
        raise UserError(
            f"The store of {self.location} lets a second writer replace what it may only create (it ignores "
            "If-None-Match); two runs could undo each other. Use a store that refuses, such as Amazon S3 or SeaweedFS."
        )

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return self.etag(key) is not None

    def etag(self, key: str) -> str | None:
        """What changes with an object's bytes, its ETag where a store has them; None when it is not there."""
        try:
            return self._persist(partial(self._head, key))
        except ObjectMissing:
            return None

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        with suppress(ObjectMissing):
            self._persist(lambda: obstore.delete(self.client, key))

    def told_retries(self) -> str:
        """What had to be tried again, for the step's log: `no retries`, or their number by reason."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.retries.items()))
        return f"{self.retries.total()} retries ({reasons})" if reasons else "no retries"

    def _full_key(self, key: str) -> str:
        return f"{self.location.prefix}/{key}" if self.location.prefix else key

    def _read(self, client: S3Store, key: str) -> bytes:
        if self._etags.are_opaque:
            return self._read_with_checksums(key)
        try:
            answer = obstore.get(client, key)
        except BaseError as error:
            if not _lacks_etag(error):
                raise
            self._etags.are_opaque = True
            return self._read_with_checksums(key)
        data = answer.bytes().to_bytes()
        if len(data) != answer.meta["size"]:
            raise DamagedAnswer(f"{len(data)} of {answer.meta['size']} bytes came")
        etag = (answer.meta["e_tag"] or "").strip('"')
        if not self._etags.match(key, etag, data) and not self._is_encrypted(key):
            raise DamagedAnswer("the bytes do not match their ETag")
        return data

    def _head(self, key: str) -> str:
        try:
            return (obstore.head(self.client, key)["e_tag"] or "").strip('"')
        except BaseError as error:
            if not _lacks_etag(error):
                raise
            head = self._aws_client.head_object(Bucket=self.location.bucket, Key=self._full_key(key))
            return str(head["LastModified"].isoformat())

    def _is_encrypted(self, key: str) -> bool:
        """Whether an object's ETag is no MD5 because it is encrypted with a key of its own (SSE-KMS, SSE-C)."""
        head = self._aws_client.head_object(Bucket=self.location.bucket, Key=self._full_key(key))
        encrypted = head.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in head
        self._etags.are_opaque |= encrypted
        return encrypted

    def _read_with_checksums(self, key: str) -> bytes:
        """Read by boto3, which compares the bytes with the checksum that a store keeps (CRC32, SHA-256, …), if any."""
        from botocore.exceptions import FlexibleChecksumError, IncompleteReadError

        answer = self._aws_client.get_object(Bucket=self.location.bucket, Key=self._full_key(key))
        try:
            return answer["Body"].read()
        except (FlexibleChecksumError, IncompleteReadError) as error:
            raise DamagedAnswer(str(error)) from error

    def _persist(self, attempt: Callable[[], T], *, listed: bool = False) -> T:
        patience = Patience(self.access, answered=self.answered, listed=listed)
        while not self._abandoned.is_set():
            try:
                result = attempt()
            except Exception as error:
                try:
                    retry = patience.after(error)
                finally:  # that a key is not there is an answer too
                    self.answered |= patience.answered
                self.count_retry(retry.kind)
                self._abandoned.wait(retry.seconds)
            else:
                self.answered = True
                return result
        raise UserError(f"The requests to {self.location} were stopped; run the step again.")


def open_store(uri: str) -> Store:
    """Open the bucket of an `s3://bucket/prefix` address.

    The public dataset's bucket is opened unsigned; any other is ours, at AWS_ENDPOINT_URL.
    """
    return Store(Access.to(uri))


class _Etags:
    """Whether the ETags of a bucket are MD5s of the bytes.

    They are for objects written in one part and not encrypted with a key of their own; elsewhere an ETag may look like
    an MD5 and be none (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). Where none has ever matched,
    the same bytes that come twice under the same ETag are taken for whole.
    """

    def __init__(self) -> None:
        self.are_opaque = False
        self._are_md5 = False
        self._seen: dict[str, tuple[str, bytes]] = {}

    def match(self, key: str, etag: str, data: bytes) -> bool:
        """False for bytes that are damaged, as far as an ETag can tell."""
        digest = hashlib.md5(data, usedforsecurity=False)
        if not _MD5.fullmatch(etag.lower()):
            return True
        if etag.lower() == digest.hexdigest():
            self._are_md5 = True
            return True
        if not self._are_md5 and self._seen.get(key) == (etag, digest.digest()):
            self.are_opaque = True
            return True
        self._seen[key] = (etag, digest.digest())
        return False


def _lacks_etag(error: BaseError) -> bool:
    """Whether obstore refuses an answer only because a store gave no ETag with it."""
    return "ETag Header missing" in str(error)


def _object_info(entry: dict[str, Any], root: str) -> ObjectInfo:
    modified = entry.get("LastModified")
    return ObjectInfo(
        entry["Key"].removeprefix(root),
        entry["Size"],
        entry.get("ETag", "").strip('"'),
        modified.isoformat() if modified else "",
    )


def _object_client(access: Access, seconds: float) -> S3Store:
    from obstore.auth.boto3 import Boto3CredentialProvider

    # Left out where not needed: obstore takes no None for them.
    options: dict[str, Any] = {"endpoint": access.endpoint} if access.endpoint else {}
    if access.signed:
        options["credential_provider"] = Boto3CredentialProvider(session_for(access))
    client_options: ClientConfig = {
        "allow_http": access.endpoint is not None and access.endpoint.startswith("http://"),
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    if access.ca_bundle:
        client_options["root_certificate"] = access.ca_bundle.read_bytes()
    return S3Store(
        access.location.bucket,
        prefix=access.location.prefix or None,
        **options,
        region=access.region,
        skip_signature=not access.signed,
        virtual_hosted_style_request=access.endpoint is None,
        client_options=client_options,
        retry_config={"max_retries": 0},  # ours are counted, and cover damaged bytes too
    )


def _aws_client(access: Access) -> Any:
    """boto3 lists, because obstore gives up a whole listing at the first odd key (`a//b`, a newline)."""
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version="s3v4" if access.signed else UNSIGNED,
        s3={"addressing_style": "virtual" if access.endpoint is None else "path"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=STALL_SECONDS,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
    )
    return session_for(access).client(
        "s3",
        endpoint_url=access.endpoint,
        config=config,
        verify=str(access.ca_bundle) if access.ca_bundle else None,
    )
