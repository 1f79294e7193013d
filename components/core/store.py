"""The S3 store: the only module that knows an S3 client.

Passing faults (5xx, SlowDown, broken connections, stalls, bytes that do not match their ETag) are tried again a bounded
number of times, with growing and jittered pauses, and counted.
"""

import hashlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from components.core.errors import UserError
from components.core.location import Access

# 12 attempts wait 13 to 26 s in all, which outlives a store's restart. One that never answered is given up early.
ATTEMPTS = 12
FIRST_ATTEMPTS = 3
MISSING_ATTEMPTS = 4  # of a key that was listed
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
STALL_SECONDS = 20.0  # for one small object
REQUEST_SECONDS = 120.0  # for any request: a shard of 100 MB may take its time
CONNECT_SECONDS = 5.0
PAGE_KEYS = 1000

T = TypeVar("T")

_MD5 = re.compile(r"[0-9a-f]{32}")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STALLED = re.compile(r"timed ?out|kind: timeout", re.IGNORECASE)
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired", "expired")


class ObjectMissing(Exception):
    """The key is not in the bucket."""


class ObjectExists(Exception):
    """A conditional write found that somebody else had written the key before."""


class ObjectCorrupt(UserError):
    """However often it is fetched, an object's bytes do not match their ETag or length."""


class _Damaged(Exception):
    """One answer's bytes do not match; the next may."""


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: full key inside the bucket, size in bytes, ETag without quotes."""

    key: str
    size: int
    etag: str


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
        self._counting = threading.Lock()
        self._abandoned = threading.Event()

    @cached_property
    def _small_client(self) -> S3Store:
        return _object_client(self.access, STALL_SECONDS)

    @cached_property
    def _lister(self) -> Any:
        return _listing_client(self.access)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects under `prefix`, streamed in the store's order; memory does not grow with their number."""
        root = f"{self.location.prefix}/" if self.location.prefix else ""
        where: dict[str, str] = {}
        while True:
            page = self._persist(partial(self._list_page, root + prefix, where))
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/") or entry["Size"]:  # some stores list folders
                    yield ObjectInfo(entry["Key"].removeprefix(root), entry["Size"], entry["ETag"].strip('"'))
            if not page["IsTruncated"]:
                return
            where = {"ContinuationToken": page["NextContinuationToken"]}

    def _list_page(self, prefix: str, where: dict[str, str]) -> dict[str, Any]:
        return self._lister.list_objects_v2(Bucket=self.location.bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, **where)

    def get(self, key: str) -> bytes:
        """All bytes of an object. Raises ObjectMissing, or ObjectCorrupt when they never match their ETag."""
        return self._persist(partial(_read, self.client, key))

    def fetch(self, key: str) -> bytes:
        """The same for a small object that is known to be there; for callers with many requests in flight.

        An answer that it is missing is asked for again, and one that stalls is given up sooner.
        """
        return self._persist(partial(_read, self._small_client, key), listed=True)

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
        """Write an object that must not exist yet. Of several writers one wins; the others get ObjectExists."""
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

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return self.etag(key) is not None

    def etag(self, key: str) -> str | None:
        """The ETag of an object, which changes with its bytes; None when it is not there."""
        try:
            head = self._persist(lambda: obstore.head(self.client, key))
        except ObjectMissing:
            return None
        return (head["e_tag"] or "").strip('"')

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        with suppress(ObjectMissing):
            self._persist(lambda: obstore.delete(self.client, key))

    def told_retries(self) -> str:
        """What had to be tried again, for the step's log: `no retries`, or their number by reason."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.retries.items()))
        return f"{self.retries.total()} retries ({reasons})" if reasons else "no retries"

    def _persist(self, attempt: Callable[[], T], *, listed: bool = False) -> T:
        patience = _Patience(self, listed=listed)
        while not self._abandoned.is_set():
            try:
                result = attempt()
            except Exception as error:
                self._abandoned.wait(patience.after(error))
            else:
                self.answered = True
                return result
        raise UserError(f"The requests to {self.location} were stopped; run the step again.")


def open_store(uri: str) -> Store:
    """Open the bucket of an `s3://bucket/prefix` address.

    The public dataset's bucket is opened unsigned; any other is ours, at AWS_ENDPOINT_URL.
    """
    return Store(Access.to(uri))


def _object_client(access: Access, seconds: float) -> S3Store:
    # Left out for AWS itself: obstore takes no None for it.
    endpoint: dict[str, Any] = {"endpoint": access.endpoint} if access.endpoint else {}
    return S3Store(
        access.location.bucket,
        prefix=access.location.prefix or None,
        **endpoint,
        region=access.region,
        skip_signature=not access.signed,
        virtual_hosted_style_request=access.endpoint is None,
        client_options={
            "allow_http": access.endpoint is not None and access.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=seconds),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        },
        retry_config={"max_retries": 0},  # ours are counted, and cover damaged bytes too
    )


def _listing_client(access: Access) -> Any:
    """boto3 lists, because obstore gives up a whole listing at the first odd key (`a//b`, a newline)."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version="s3v4" if access.signed else UNSIGNED,
        s3={"addressing_style": "virtual" if access.endpoint is None else "path"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=STALL_SECONDS,
        retries={"total_max_attempts": 1},
    )
    # A session of its own: the shared one keeps the credentials that were set when it was first used.
    return boto3.Session().client("s3", endpoint_url=access.endpoint, region_name=access.region, config=config)


def _read(client: S3Store, key: str) -> bytes:
    answer = obstore.get(client, key)
    return _intact(answer, answer.bytes().to_bytes())


def _intact(answer: "obstore.GetResult", data: bytes) -> bytes:
    if len(data) != answer.meta["size"]:
        raise _Damaged(f"{len(data)} of {answer.meta['size']} bytes came")
    etag = (answer.meta["e_tag"] or "").strip('"')
    if _MD5.fullmatch(etag) and hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
        raise _Damaged("the bytes do not match their ETag")
    return data


class _Patience:
    """Decides after each failed attempt of one request: how long to wait, or which error to give up with."""

    def __init__(self, store: Store, *, listed: bool = False) -> None:
        self.store = store
        self.listed = listed
        self.failures = 0
        self.missed = 0  # answers that the key is not there, among the failures

    def after(self, error: Exception) -> float:
        """Seconds to wait before the next attempt. Raises ours in place of `error` when there is none."""
        self.failures += 1
        place = self.store.location
        status, code = _status_and_code(error)
        self.store.answered |= status > 0
        missing = status == 404 or isinstance(error, FileNotFoundError)
        self.missed += missing
        if isinstance(error, AlreadyExistsError) or status == 412:
            raise ObjectExists(str(place)) from error
        if missing and code != "NoSuchBucket" and (not self.listed or self.missed >= MISSING_ATTEMPTS):
            raise ObjectMissing(str(place)) from error
        sentence = _refusal(error, status, code, self.store.access)
        if sentence:
            raise UserError(sentence) from error
        if not missing and not _passing(error, status):
            raise error
        if self.failures >= (ATTEMPTS if self.store.answered else FIRST_ATTEMPTS):
            if isinstance(error, _Damaged):
                raise ObjectCorrupt(f"An object of {place} stays damaged ({error}); write it again.") from error
            check = "that it runs and AWS_ENDPOINT_URL" if self.store.access.signed else "the connection to AWS"
            raise UserError(f"The store of {place} does not answer ({_first_line(error)}); check {check}.") from error
        self.store.count_retry(_kind(error, status))
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.failures)
        return pause * random.uniform(0.5, 1)  # noqa: S311 - jitter


def _refusal(error: Exception, status: int, code: str, access: Access) -> str:
    """A sentence for an answer that will not change when it is asked for again; empty for any other."""
    place = access.location
    if code == "NoSuchBucket":
        where = access.endpoint or "AWS"
        return f"The bucket '{place.bucket}' does not exist in the store at {where}; create it or check its name."
    if any(word in code for word in _EXPIRED):
        return f"The credentials for {place} have expired; renew them and run again, what is done is kept."
    if (
        status in (401, 403)
        or isinstance(error, PermissionDeniedError | UnauthenticatedError)
        or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError")
    ):
        if not access.signed:
            return f"{place} is public and was refused; check that no proxy or firewall answers in its place."
        return f"The store refused access to {place}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if _from_store(error) and 400 <= status < 500 and status not in (404, 408, 429):
        return f"The store of {place} refused a request ({_first_line(error)}); check AWS_ENDPOINT_URL and AWS_REGION."
    return ""


def _status_and_code(error: Exception) -> tuple[int, str]:
    """HTTP status and S3 error code, 0 and empty where there was no answer."""
    response = getattr(error, "response", None)  # botocore's ClientError
    if isinstance(response, dict):
        return int(response["ResponseMetadata"]["HTTPStatusCode"]), str(response["Error"].get("Code", ""))
    if isinstance(error, BaseError | FileNotFoundError):
        status, code = _STATUS.search(str(error)), _CODE.search(str(error))
        return int(status[1]) if status else 0, code[1] if code else ""
    return 0, ""


def _from_store(error: Exception) -> bool:
    """Whether one of the clients raised it (boto3 also lets errors of the layers below it through)."""
    return isinstance(error, BaseError) or type(error).__module__.split(".")[0] in ("botocore", "urllib3", "http")


def _passing(error: Exception, status: int) -> bool:
    if isinstance(error, _Damaged):
        return True
    return _from_store(error) and (status in (0, 200, 404, 408, 429) or status >= 500)


def _kind(error: Exception, status: int) -> str:
    if isinstance(error, _Damaged):
        return "damaged bytes"
    if _STALLED.search(str(error)):
        return "stalled"
    return f"status {status}" if status >= 400 else "broken connections"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
