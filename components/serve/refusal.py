"""Requests that are answered with an error: what was wrong and what is accepted, and never a traceback."""

from collections.abc import Mapping


class Refusal(Exception):
    """A request that gets no count. `reason` is a word for the metrics, `message` a sentence for the caller.

    `retry_after` (seconds) says that the same request may succeed later; `headers` go into an answer over HTTP.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.headers = dict(headers or {})


def bad_request(reason: str, message: str) -> Refusal:
    """A request whose content is wrong: 400."""
    return Refusal(400, reason, message)


def overloaded(message: str = "The server has as many photos waiting as it takes; try again in a second.") -> Refusal:
    """Too much at once: 503 with Retry-After."""
    return Refusal(503, "overloaded", message, retry_after=1)


def stopping() -> Refusal:
    """The server ends: 503 with Retry-After, for another one may take over."""
    return Refusal(503, "stopping", "The server is about to stop; try again in a second.", retry_after=1)
