"""The model registry: immutable versions in our models bucket, and which of them is in service.

Which version serves is told by numbered records, `deployments/00000001.json` and so on: the highest number counts, and
because a record is created only if its number is free, of two deployers that act at once one wins. `latest.json` is a
copy of the newest record at a fixed place, for people and for tools.
"""

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.bundle import INFO_FILE, BundleInfo, bundle_version, read_bundle
from components.core.errors import UserError
from components.core.layout import (
    DEPLOYMENTS_PREFIX,
    LATEST_KEY,
    VERSIONS_PREFIX,
    deployment_key,
    golden_prefix,
    version_prefix,
)
from components.core.store import ObjectExists, ObjectMissing, Store, open_store
from components.core.stored import Stored

VERSION = re.compile(r"[0-9a-f]{12}")
GOLDEN_FILE = "golden.json"


class Figures(BaseModel):
    """A version's figures on the test bins of the run that put it into service."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    accuracy_ci95: tuple[float, float]
    baseline_accuracy: float
    loss: float
    rmse: float
    within_one: float
    n_test: int
    # Share of the wrong records among the first tenth of recounts, and by the record without the photo.
    wrong_records_found: float | None = None
    wrong_records_found_without_photo: float | None = None


class Deployment(Stored):
    """The record of one change of the version in service.

    `champion` is the version it was compared with ("" for none), `run` the fingerprint of the run's inputs, `source`
    the address of the bins it was trained on ("" where that was not recorded), `forced` whether the gate was overruled.
    """

    what: ClassVar[str] = "a record of a deployment"
    remedy: ClassVar[str] = "put the record back, or remove it"

    number: int = Field(ge=1)
    version: str
    champion: str = ""
    run: str = ""
    target: str = ""
    deployed_at: str
    figures: Figures | None = None
    source: str = ""
    forced: bool | None = None  # not known of what older versions recorded

    def told(self) -> str:
        """The version with its figures, for people."""
        if self.figures is None:
            return f"version {self.version}"
        low, high = self.figures.accuracy_ci95
        return (
            f"version {self.version}, accuracy {self.figures.accuracy:.1%} ({low:.1%} to {high:.1%}, baseline "
            f"{self.figures.baseline_accuracy:.1%}), within one {self.figures.within_one:.1%} of "
            f"{self.figures.n_test} test bins"
        )


class GoldenAnswer(BaseModel):
    """What evaluate says about one photo, in the server's runtime and precision."""

    model_config = ConfigDict(frozen=True)

    image_id: Annotated[str, Field(pattern=r"^[0-9]{1,12}$")]
    count: int
    scores: tuple[float, ...]
    out_of_range: float | None = None


@dataclass(frozen=True)
class GoldenRequest:
    """A test photo, as a camera would send it, and the answer that is right for it."""

    jpeg: bytes
    answer: GoldenAnswer


class SupersededError(UserError):
    """Another deployer changed the version in service first."""


class Registry:
    """The versions in one models bucket."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, models_uri: str) -> "Registry":
        """Open the registry of `s3://bucket`. Raises UserError for anything that is not an S3 address."""
        return cls(open_store(models_uri))

    def versions(self) -> list[str]:
        """Versions that were published whole, in the order of their names."""
        found = [entry.key.removeprefix(VERSIONS_PREFIX).split("/") for entry in self.store.list(VERSIONS_PREFIX)]
        return sorted(version for version, *rest in found if rest == [INFO_FILE])

    def publish(self, folder: Path, golden: list[GoldenRequest]) -> str:
        """Copy a bundle and its golden requests into the bucket; returns the version.

        Every object is written only if it is not there yet, and model.json last: a version is whole, or not there, and
        never changes. Publishing the same bundle again changes nothing. Raises UserError for a damaged bundle.
        """
        bundle = read_bundle(folder)
        version = bundle_version(folder)
        for request in golden:
            self._create(f"{golden_prefix(version)}{request.answer.image_id}.jpg", request.jpeg)
        answers = [request.answer.model_dump() for request in golden]
        with suppress(ObjectExists):  # an earlier run's questions serve as well
            self.store.create(f"{golden_prefix(version)}{GOLDEN_FILE}", json.dumps(answers).encode())
        for name in [*sorted(bundle.info.checksums), INFO_FILE]:
            self._create(f"{version_prefix(version)}{name}", (folder / name).read_bytes())
        return version

    def fetch(self, version: str, folder: Path) -> Path:
        """Copy a version's bundle into `folder` and check it. Raises UserError when it is missing or damaged."""
        info = self.info(version)
        folder.mkdir(parents=True, exist_ok=True)
        for name in [*sorted(info.checksums), INFO_FILE]:
            try:
                (folder / name).write_bytes(self.store.get(f"{version_prefix(version)}{name}"))
            except ObjectMissing as error:
                raise UserError(f"Version {version} in {self.store.location} lacks {name}; train it again.") from error
        if bundle_version(folder) != version:
            raise UserError(f"Version {version} in {self.store.location} is not what its name says; train it again.")
        return folder

    def info(self, version: str) -> BundleInfo:
        """model.json of a version. Raises UserError when there is no such version."""
        if not VERSION.fullmatch(version):
            raise UserError(f"'{version}' is not a version; it is twelve hex digits, see `make models`.")
        try:
            data = self.store.get(f"{version_prefix(version)}{INFO_FILE}")
        except ObjectMissing as error:
            raise UserError(f"There is no version {version} in {self.store.location}; see `make models`.") from error
        return BundleInfo.parse(data, f"Version {version} in {self.store.location}")

    def golden(self, version: str) -> list[GoldenRequest]:
        """The golden requests that were published with a version. Raises UserError when there are none."""
        prefix = golden_prefix(version)
        try:
            answers = [GoldenAnswer.model_validate(one) for one in json.loads(self.store.get(f"{prefix}{GOLDEN_FILE}"))]
            return [GoldenRequest(self.store.get(f"{prefix}{answer.image_id}.jpg"), answer) for answer in answers]
        except (ObjectMissing, ValidationError) as error:
            raise UserError(
                f"Version {version} in {self.store.location} has no golden requests to check it with; train it again."
            ) from error

    def current(self) -> Deployment | None:
        """The newest deployment, None before the first."""
        numbers = self._numbers()
        return self._record(numbers[-1]) if numbers else None

    def serving(self) -> str:
        """The version in service, "" for none."""
        current = self.current()
        return current.version if current else ""

    def champion_for(self, run: str) -> str:
        """The version that a run's gate compares with, "" for none.

        It is the version in service; but if that came out of a run with the same inputs, it is what that run was
        compared with, so that repeating a run asks the gate the same question.
        """
        current = self.current()
        if current is None:
            return ""
        return current.champion if run and current.run == run else current.version

    def last_served(self, champion: str, number: int) -> list[str]:
        """`champion` and the versions put into service before it, newest first, each once, at most `number` of them.

        What came after the champion does not count, so the answer stays the same while newer versions arrive.
        """
        served = [deployment.version for deployment in self.deployments()]
        until = len(served) - served[::-1].index(champion) if champion in served else 0
        return list(dict.fromkeys([champion, *served[:until][::-1]]))[:number]

    def deployments(self) -> list[Deployment]:
        """All deployments, oldest first."""
        return [self._record(number) for number in self._numbers()]

    def advance(
        self,
        before: Deployment | None,
        version: str,
        champion: str,
        run: str,
        target: str,
        figures: Figures | None,
        source: str = "",
        forced: bool | None = None,
    ) -> Deployment:
        """Put `version` into service, provided that `before` is still the newest deployment.

        Raises SupersededError, and changes nothing, when another deployer was faster.
        """
        record = Deployment(
            number=before.number + 1 if before else 1,
            version=version,
            champion=champion,
            run=run,
            target=target,
            deployed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            figures=figures,
            source=source,
            forced=forced,
        )
        try:
            self.store.create(deployment_key(record.number), record.text().encode())
        except ObjectExists as error:
            winner = self.serving()
            raise SupersededError(
                f"Version {version} was not put into service, because another deploy put {winner} there first; "
                "run again to compare with that one."
            ) from error
        self.write_latest()
        return record

    def write_latest(self) -> None:
        """Bring latest.json up to the newest record, also when others write too or died before they did."""
        numbers = self._numbers()
        while numbers:
            # Copied as it is: a newer version of this code may have written fields that we do not know.
            self.store.put(LATEST_KEY, self.store.get(deployment_key(numbers[-1])))
            written, numbers = numbers, self._numbers()
            if numbers == written:
                return

    def _numbers(self) -> list[int]:
        keys = [entry.key for entry in self.store.list(DEPLOYMENTS_PREFIX)]
        return sorted(int(key.removeprefix(DEPLOYMENTS_PREFIX).removesuffix(".json")) for key in keys)

    def _record(self, number: int) -> Deployment:
        key = deployment_key(number)
        return Deployment.parse(self.store.get(key), f"{self.store.location}/{key}")

    def _create(self, key: str, data: bytes) -> None:
        """Write an immutable object; what is there already must be the same."""
        try:
            self.store.create(key, data)
        except ObjectExists as error:
            if self.store.get(key) != data:
                raise UserError(
                    f"{self.store.location}/{key} holds something else under a name that never changes; "
                    "remove that object if it was damaged, and run again."
                ) from error
