"""Which failed requests to a store are tried again, how long to wait for them, and what is said of the others.

Passing faults (5xx, SlowDown, broken connections, stalls, bytes that do not match their checksum) are tried again a
bounded number of times, with growing and jittered pauses, and counted.
"""

import random
import re
import time
from dataclasses import dataclass

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from components.core.errors import UserError
from components.core.location import Access

# 12 attempts wait 16 to 31 s in all. A store that answered and then cannot be reached may be restarting, which takes a
# pod longer than that. One that never answered is given up early.
ATTEMPTS = 12
OUTAGE_SECONDS = 60.0
FIRST_ATTEMPTS = 3
MISSING_ATTEMPTS = 4  # of a key that was listed
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STALLED = re.compile(r"timed ?out|kind: timeout", re.IGNORECASE)
_CERTIFICATE = re.compile(r"certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED|SSL", re.IGNORECASE)
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired", "expired")
_OTHER_REGION = (
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_BUSY = ("SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException")


class ObjectMissing(Exception):
    """The key is not in the bucket."""


class ObjectExists(Exception):
    """A conditional write found that somebody else had written the key before."""


class ObjectCorrupt(UserError):
    """However often it is fetched, an object's bytes do not match their checksum or length."""


class DamagedAnswer(Exception):
    """One answer's bytes do not match; the next may."""


@dataclass(frozen=True)
class Retry:
    """One more attempt: the reason, and the seconds to wait before it."""

    kind: str
    seconds: float


class Patience:
    """Decides after each failed attempt of one request: how long to wait, or which error to give up with.

    `answered` says whether the store ever answered anything. `listed`: the key was seen in a listing.
    """

    def __init__(self, access: Access, *, answered: bool, listed: bool = False) -> None:
        self.access = access
        self.answered = answered
        self.listed = listed
        self.failures = 0
        self.began = time.monotonic()
        self.missed = 0  # answers that the key is not there, among the failures

    def after(self, error: Exception) -> Retry:
        """When to try again, and what for. Raises ours in place of `error` when there is none."""
        self.failures += 1
        place = self.access.location
        status, code = _status_and_code(error)
        self.answered |= status > 0
        missing = status == 404 or isinstance(error, FileNotFoundError)
        self.missed += missing
        if isinstance(error, AlreadyExistsError) or status == 412:
            raise ObjectExists(str(place)) from error
        if missing and code != "NoSuchBucket" and (not self.listed or self.missed >= MISSING_ATTEMPTS):
            raise ObjectMissing(str(place)) from error
        sentence = _refusal(error, status, code, self.access)
        if sentence:
            raise UserError(sentence) from error
        if not missing and not _passing(error, status):
            raise error
        unreachable = status == 0 and not missing and not isinstance(error, DamagedAnswer)
        outage = self.answered and unreachable and time.monotonic() - self.began < OUTAGE_SECONDS
        if self.failures >= (ATTEMPTS if self.answered else FIRST_ATTEMPTS) and not outage:
            raise self._given_up(error, code) from error
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.failures)
        return Retry(_kind(error, status), pause * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _given_up(self, error: Exception, code: str) -> UserError:
        place = self.access.location
        if isinstance(error, DamagedAnswer):
            return ObjectCorrupt(f"An object of {place} stays damaged ({error}); write it again.")
        if code in _BUSY:
            return UserError(
                f"The store of {place} asks for fewer requests ({code}); run again later, what is done is kept."
            )
        check = "that it runs and AWS_ENDPOINT_URL" if self.access.signed else "the connection to AWS"
        return UserError(f"The store of {place} does not answer ({_first_line(error)}); check {check}.")


def _refusal(error: Exception, status: int, code: str, access: Access) -> str:
    """A sentence for an answer that will not change when it is asked for again; empty for any other."""
    place = access.location
    if code == "NoSuchBucket":
        where = access.endpoint or "AWS"
        return f"The bucket '{place.bucket}' does not exist in the store at {where}; create it or check its name."
    if code == "RequestTimeTooSkewed":
        return f"The clock of this machine is not the clock of the store of {place}; set it right and run again."
    if any(word in code for word in _EXPIRED):
        return f"The credentials for {place} have expired; renew them and run again, what is done is kept."
    # boto3 asks a store that does not name the bucket's region for it without end.
    if code in _OTHER_REGION or isinstance(error, RecursionError) or "configured region" in str(error):
        return f"{place} lies in another region than {access.region}; set AWS_REGION to its own."
    if status == 501:
        return (
            f"The store of {place} cannot do what is asked of it ({code or 'status 501'}); writes that must not "
            "replace an object (If-None-Match) need a store that knows them, such as Amazon S3, SeaweedFS or MinIO."
        )
    if _certificate_refused(error):
        return (
            f"The certificate of the store of {place} is not trusted ({_first_line(error)}); name the file with its "
            "authority in SSL_CERT_FILE."
        )
    if (
        status in (401, 403)
        or isinstance(error, PermissionDeniedError | UnauthenticatedError)
        or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError")
    ):
        if not access.signed:
            return f"{place} is public and was refused; check that no proxy or firewall answers in its place."
        return f"The store refused access to {place}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if _from_client(error) and 400 <= status < 500 and status not in (404, 408, 429):
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


def _certificate_refused(error: Exception) -> bool:
    """Whether TLS failed for the certificate's sake; obstore tells the cause in its text only."""
    return _from_client(error) and _CERTIFICATE.search(f"{error} {error.__cause__} {error!r}") is not None


def _from_client(error: Exception) -> bool:
    """Whether one of the clients raised it (boto3 also lets errors of the layers below it through)."""
    return isinstance(error, BaseError) or type(error).__module__.split(".")[0] in ("botocore", "urllib3", "http")


def _passing(error: Exception, status: int) -> bool:
    if isinstance(error, DamagedAnswer):
        return True
    return _from_client(error) and (status in (0, 200, 404, 408, 429) or status >= 500)


def _kind(error: Exception, status: int) -> str:
    if isinstance(error, DamagedAnswer):
        return "damaged bytes"
    if _STALLED.search(str(error)):
        return "stalled"
    return f"status {status}" if status >= 400 else "broken connections"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
