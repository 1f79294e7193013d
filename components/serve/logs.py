"""Log lines that nobody else can write: what a request holds appears in them without control characters."""

import logging
import re
import traceback

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_AND_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def escape_control_characters() -> None:
    """From now on every log record of this process has one line, and a traceback's lines are indented."""
    make = logging.getLogRecordFactory()

    def escaped(*arguments: object, **named: object) -> logging.LogRecord:
        record = make(*arguments, **named)
        record.msg, record.args = _escape(_CONTROL_AND_LINES, record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            lines = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_text = _escape(_CONTROL, lines).replace("\n", "\n    ")
        return record

    logging.setLogRecordFactory(escaped)


def _escape(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: repr(found[0])[1:-1], text)
