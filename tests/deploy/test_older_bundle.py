"""A model that an older revision made, by its own code, is served, compared with and rolled back to by this one.

The oldest revision that counts is FIRST, from before documents said their format. A clone without its history skips.
"""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest

from components.core.bundle import bundle_version, read_bundle
from components.core.registry import Registry
from components.core.shards import ShardIndex
from components.core.verdict import Verdict
from components.deploy.golden import check_answers
from components.deploy.local import running_server

ROOT = Path(__file__).parent.parent.parent
FIRST = "7dd5d40"
# A tenth of these bins is the test's, of which five in eight are in range: more than the gate needs to compare.
MAKE_BINS = """
import sys
from pathlib import Path
from tests.train.conftest import store_bins
store_bins(Path(sys.argv[1]), [number % 8 for number in range(1800)])
"""
TRAINING = [
    "--recipe=frozen",
    "--epochs=1",
    "--image-size=48",
    "--backbone=test_efficientnet",
    "--weights=random",
    '--overrides={"batch_size": 16, "serving": "f32", "autocast": "f32"}',
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def older_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the code of FIRST."""
    archive = subprocess.run(["git", "archive", FIRST], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"revision {FIRST} is not in this clone")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Revision:
    """The steps of one revision, run from a shell as its users do, on the bins in `data`."""

    code: Path
    data: Path
    results: Path
    models_uri: str

    def run(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.code), "BIN_COUNTER_CACHE": str(self.results / "cache")}
        command = [sys.executable, *words]
        ended = subprocess.run(command, cwd=self.code, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def step(self, name: str, *flags: str) -> str:
        return self.run("-m", f"components.{name}", *flags)

    @property
    def bundle(self) -> Path:
        return self.results / "model"

    def train_and_deploy(self, champion: str = "") -> Verdict:
        """From the bins to a model in service on this machine, whatever its accuracy; returns the gate's verdict."""
        index, splits = f"--shard-index={self.data}/index.json", f"--splits={self.data}/splits.parquet"
        self.step("train", index, splits, *TRAINING, f"--output={self.results}")
        metrics, predictions = f"--metrics={self.results}/metrics", f"--predictions={self.results}/predictions"
        report = f"--report={self.results}/report"
        self.step("evaluate", f"--bundle={self.bundle}", index, splits, metrics, predictions, report)
        given = [f"--bundle={self.bundle}", predictions, index, f"--models-uri={self.models_uri}"]
        verdict = f"--verdict={self.results}/verdict"
        self.step("gate", *given, metrics, verdict, f"--champion={champion}", "--force")
        self.step("deploy", "deploy", *given, verdict, f"--deployment={self.results}/deployment")
        return Verdict.read(self.results / "verdict")


@pytest.mark.usefixtures("store_environment")
def test_a_model_of_an_older_revision_is_served_compared_with_and_rolled_back_to(
    older_code: Path, tmp_path: Path
) -> None:
    uri = f"s3://models/{uuid4().hex}"
    older = Revision(older_code, tmp_path / "data", tmp_path / "older", uri)
    newer = Revision(ROOT, tmp_path / "data", tmp_path / "newer", uri)
    (tmp_path / "data").mkdir()
    older.run("-c", MAKE_BINS, str(tmp_path / "data"))
    older.train_and_deploy()
    version, registry = bundle_version(older.bundle), Registry.open(uri)
    assert registry.serving() == version
    assert ShardIndex.read(tmp_path / "data" / "index.json").images == 1800

    # Served: with the answers that its own code gave.
    golden = registry.golden(version)
    assert len(golden) == 16
    with running_server(older.bundle, tmp_path / "log") as url:
        check_answers(url, version, read_bundle(older.bundle).info, golden)

    # Compared with, by the model of this revision.
    verdict = newer.train_and_deploy(champion=version)
    assert verdict.champion == verdict.reference == version
    assert verdict.compared_bins >= 100
    assert registry.serving() == verdict.version != version

    # Rolled back to.
    newer.step("deploy", "rollback", version, f"--models-uri={uri}")
    assert registry.serving() == version
    assert [record.version for record in registry.deployments()] == [version, verdict.version, version]
    assert version in newer.step("deploy", "models", f"--models-uri={uri}")
