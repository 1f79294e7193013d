"""What names a run, and whether there is anything new in it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHANGED, UNCHANGED = "changed", "unchanged"


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Names a run by all that goes into it: a second run with nothing changed has the same."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]
