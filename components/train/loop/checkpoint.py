"""Checkpoints: what a run needs to go on, kept in our bucket under the fingerprint of the inputs, or in a folder."""

import hashlib
import io
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from components.core.errors import UserError
from components.core.files import write_whole
from components.core.layout import state_prefix
from components.core.place import is_address
from components.core.store import ObjectCorrupt, ObjectMissing, open_store

FILES = ("checkpoint.pt", "checkpoint-2.pt")  # written in turn, so that a damaged one leaves the one before
_ATTEMPTS = 3
# JSON of everything that decides the weights: the recipe's fields, the seed, digests of data, first weights and code.
Description = dict[str, Any]


def fingerprint(description: Description) -> str:
    """SHA-256 over a description; equal inputs have equal fingerprints."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """SHA-256 over the sources of this step: another version of the code never goes on from an older one's state."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass
class Checkpoints:
    """Writes and reads the checkpoint of one run.

    `place` is s3://bucket (the keys are under the fingerprint there), a folder, or "" for none. The last two are kept.
    """

    place: str
    description: Description
    interval: float = 60.0  # seconds between two checkpoints
    _written: float = field(default_factory=time.monotonic)
    _number: int = 0  # of the last one that was written or read

    @property
    def where(self) -> str:
        """Address of the checkpoint, for people."""
        return self._address(_file(max(self._number, 1)))

    def due(self) -> bool:
        """Whether the last one is old enough for a new one."""
        return bool(self.place) and time.monotonic() - self._written >= self.interval

    def save(self, state: dict[str, Any]) -> bool:
        """Write the state, whole or not at all. A store that fails is tried again, then reported and passed over."""
        if not self.place:
            return False
        buffer = io.BytesIO()
        number = self._number + 1
        torch.save({"description": json.dumps(self.description), "number": number, "state": state}, buffer)
        self._written = time.monotonic()
        for attempt in range(_ATTEMPTS):
            try:
                self._put(_file(number), buffer.getvalue())
            except (UserError, OSError) as error:
                reason = str(error)
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(2**attempt)
            else:
                self._number = number
                return True
        print(
            f"No checkpoint was written: {reason} Training goes on; a restart begins from the one before.", flush=True
        )
        return False

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, None where there is none.

        Raises UserError when a folder holds the checkpoint of another run. A damaged one is reported and not used.
        """
        found: dict[int, dict[str, Any]] = {}
        damaged: list[str] = []
        for name in FILES if self.place else ():
            try:
                data = self._get(name)
                if data is not None:
                    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                    theirs, found[int(content["number"])] = json.loads(content["description"]), content["state"]
            except (UserError, OSError) as error:
                if not isinstance(error, ObjectCorrupt):
                    raise
                damaged.append(f"{self._address(name)} is damaged ({error})")
            except Exception as error:  # torch raises many kinds for a file that is cut off or no checkpoint
                damaged.append(f"{self._address(name)} is damaged ({type(error).__name__})")
            else:
                if data is not None and theirs != self.description:
                    raise UserError(
                        f"The checkpoint {self._address(name)} belongs to another run "
                        f"({_difference(theirs, self.description)}); give another folder, or remove it to start anew."
                    )
        self._number = max(found, default=0)
        for sentence in damaged:
            then = "goes on from the one before" if found else "starts anew"
            print(f"The checkpoint {sentence}; training {then}.", flush=True)
        return found.get(self._number)

    def _address(self, name: str) -> str:
        return f"{self.place.rstrip('/')}/{self._key(name)}"

    def _key(self, name: str) -> str:
        if is_address(self.place):
            return state_prefix("train", fingerprint(self.description)[:32]) + name
        return name

    def _put(self, name: str, data: bytes) -> None:
        if is_address(self.place):
            open_store(self.place).put(self._key(name), data)
            return
        write_whole(Path(self.place) / name, data, durable=True)

    def _get(self, name: str) -> bytes | None:
        if is_address(self.place):
            try:
                return open_store(self.place).get(self._key(name))
            except ObjectMissing:
                return None
        path = Path(self.place) / name
        return path.read_bytes() if path.is_file() else None


def _file(number: int) -> str:
    """Where checkpoint `number` of a run goes; the first is 1."""
    return FILES[(number - 1) % len(FILES)]


def _difference(theirs: Description, ours: Description) -> str:
    """The first field that differs, as people would say it."""

    left, right = ({**one, **one.get("recipe", {})} for one in (theirs, ours))
    left["recipe"], right["recipe"] = left.get("name"), right.get("name")
    for key in right:
        if left.get(key) != right[key]:
            there, here = (str(value)[:12] for value in (left.get(key), right[key]))
            return f"{key} is {there} there and {here} here"
    return "its description differs"
