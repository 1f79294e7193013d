"""How launcher and pods hand files to each other: through our bucket, under the fingerprint of the job."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import state_prefix
from components.core.store import ObjectMissing, open_store

INPUTS = ("shard_index", "splits")
OUTPUTS = ("bundle", "report", "curves")
DONE = "done.json"


@dataclass(frozen=True)
class Exchange:
    """The place of one job in the bucket at `data_uri`."""

    data_uri: str
    fingerprint: str

    def put_inputs(self, files: dict[str, Path]) -> None:
        """Write the inputs; they are in the fingerprint, so writing them again changes nothing."""
        store = open_store(self.data_uri)
        for name in INPUTS:
            store.put(self._key("inputs", name), files[name].read_bytes())

    def get_inputs(self, folder: Path) -> dict[str, Path]:
        """Fetch the inputs into `folder`. Raises UserError when they are not there."""
        store = open_store(self.data_uri)
        found = {}
        for name in INPUTS:
            found[name] = folder / name
            try:
                found[name].write_bytes(store.get(self._key("inputs", name)))
            except ObjectMissing as error:
                raise UserError(
                    f"{self.data_uri} has no inputs of job {self.fingerprint}; submit the run again."
                ) from error
        return found

    def put_outputs(self, outputs: dict[str, Path]) -> None:
        """Write files and folders, and last the list of them, without which they do not count."""
        store = open_store(self.data_uri)
        written = {}
        for name in OUTPUTS:
            root = outputs[name]
            for path in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
                relative = name if path == root else f"{name}/{path.relative_to(root).as_posix()}"
                data = path.read_bytes()
                store.put(self._key("outputs", relative), data)
                written[relative] = hashlib.sha256(data).hexdigest()
        store.put(self._key("outputs", DONE), json.dumps(written, sort_keys=True).encode())

    def done(self) -> bool:
        """Whether the outputs are whole."""
        return open_store(self.data_uri).exists(self._key("outputs", DONE))

    def get_outputs(self, outputs: dict[str, Path]) -> None:
        """Fetch what `put_outputs` wrote. Raises UserError when it is incomplete or was changed."""
        store = open_store(self.data_uri)
        try:
            listed: dict[str, str] = json.loads(store.get(self._key("outputs", DONE)))
            for relative, digest in listed.items():
                name, _, inner = relative.partition("/")
                path = outputs[name] / inner if inner else outputs[name]
                data = store.get(self._key("outputs", relative))
                if hashlib.sha256(data).hexdigest() != digest or ".." in path.parts:
                    raise UserError(f"{relative} of job {self.fingerprint} in {self.data_uri} is damaged; run again.")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        except ObjectMissing as error:
            raise UserError(
                f"The pods of job {self.fingerprint} ended without leaving a model in {self.data_uri}; run again."
            ) from error

    def _key(self, part: str, name: str) -> str:
        return f"{state_prefix('train_job', self.fingerprint)}{part}/{name}"


def fingerprint(arguments: list[str], image: str, files: dict[str, Path]) -> str:
    """SHA-256 over what decides the outcome: the arguments, the code (by its image), the inputs."""
    digest = hashlib.sha256(json.dumps([arguments, image]).encode())
    for name in INPUTS:
        digest.update(hashlib.sha256(files[name].read_bytes()).digest())
    return digest.hexdigest()[:32]
