"""The deploy step on this machine: a real store, and the real model server as a process."""

import json
import re
import subprocess
import sys
from contextlib import _GeneratorContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from components.core.bundle import bundle_version
from components.core.errors import UserError
from components.core.layout import LATEST_KEY
from components.core.predictions import read_predictions, write_predictions
from components.core.registry import Registry
from components.deploy import local
from components.deploy.deploy import Inputs, deploy, open_target, roll_back
from components.deploy.local import LocalTarget
from components.deploy.models import print_models
from components.deploy.target import Candidate
from components.evaluate.evaluate import Outputs, evaluate
from components.gate.gate import Inputs as GateInputs
from components.gate.gate import gate
from pipeline.local_store import RunningStore
from tests.small_model import SmallData, write_small_bundle, write_small_data

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Models:
    """A registry of a test's own, and a way to make models that passed the gate."""

    uri: str
    data: SmallData
    folder: Path

    @property
    def registry(self) -> Registry:
        return Registry.open(self.uri)

    def judged(self, name: str, shift: float = 0.0, champion: str | None = None) -> Inputs:
        """The inputs of deploy for a model of that shift, compared with what serves now."""
        folder = self.folder / name
        bundle = write_small_bundle(folder / "bundle", shift)
        outputs = Outputs(folder / "metrics.json", folder / "predictions.parquet", folder / "report.html")
        evaluate(bundle.folder, self.data.index, self.data.splits, 0, outputs)
        inputs = GateInputs(bundle.folder, outputs.metrics, outputs.predictions, self.data.index)
        champion = self.registry.serving() if champion is None else champion
        gate(inputs, champion, self.uri, margin=0, force=False).write(folder / "verdict.json")
        return Inputs(bundle.folder, outputs.predictions, self.data.index, folder / "verdict.json")


@pytest.fixture
def models(store_environment: RunningStore, tmp_path: Path) -> Models:
    return Models(f"s3://models/{uuid4().hex}", write_small_data(tmp_path / "data", bins=240), tmp_path)


def no_server_left() -> bool:
    """Whether no model server that a deployment started is running: its model lies in a temporary folder of ours."""
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    return not any("components.serve" in command and "/bin-counter-" in command for command in commands)


def test_a_good_model_goes_into_service_and_again_changes_nothing(models: Models) -> None:
    inputs = models.judged("first")
    record = deploy(inputs, models.uri, LocalTarget(), "fingerprint")
    assert (record.version, record.champion, record.run) == (bundle_version(inputs.bundle), "", "fingerprint")
    latest = json.loads(models.registry.store.get(LATEST_KEY))
    assert latest["version"] == record.version
    assert latest["figures"]["accuracy"] > 0.5
    assert deploy(inputs, models.uri, LocalTarget()) == record
    assert len(models.registry.deployments()) == 1
    golden = [request.answer.image_id for request in models.registry.golden(record.version)]
    predictions = read_predictions(inputs.predictions)
    assert len(golden) == len(set(golden)) == 16
    assert set(golden) <= set(predictions.loc[predictions["subset"] == "test", "image_id"])
    assert no_server_left()


def test_an_answer_unlike_evaluates_keeps_the_version_out(models: Models) -> None:
    inputs = models.judged("first")
    predictions = read_predictions(inputs.predictions)
    turned = predictions.assign(scores=[row[::-1] for row in predictions["scores"]], count=6 - predictions["count"])
    write_predictions(inputs.predictions, turned)
    with pytest.raises(
        UserError, match=r"^The server at .* is wrong about test photo \d+: count \d where evaluate got"
    ):
        deploy(inputs, models.uri, LocalTarget())
    assert models.registry.current() is None
    assert not models.registry.store.exists(LATEST_KEY)
    assert no_server_left()


def test_a_server_that_does_not_start_keeps_the_version_out_and_says_why(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SERVER", [sys.executable, "-c", "raise SystemExit('no such library')"])
    with pytest.raises(UserError, match=r"ended with status 1 before it was ready \(no such library\)"):
        deploy(models.judged("first"), models.uri, LocalTarget())
    assert models.registry.current() is None


def test_a_server_that_never_gets_ready_is_given_up(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SERVER", [sys.executable, "-c", "import time; print('loading'); time.sleep(60)"])
    monkeypatch.setattr(local, "START_TIMEOUT_SECONDS", 1.0)
    inputs = models.judged("first")
    before = set(psutil.Process().children())  # the store, and what other tests keep running
    with pytest.raises(UserError, match="not ready after 1 s"):
        deploy(inputs, models.uri, LocalTarget())
    assert set(psutil.Process().children()) <= before


def test_the_verdict_is_obeyed(models: Models) -> None:
    inputs = models.judged("guesses", shift=2.0)
    with pytest.raises(UserError, match=r"is not deployed: Accuracy .* is not above"):
        deploy(inputs, models.uri, LocalTarget())
    assert models.registry.versions() == []


def test_a_verdict_about_another_model_is_refused(models: Models) -> None:
    inputs = models.judged("first")
    other = write_small_bundle(models.folder / "other", shift=0.1)
    with pytest.raises(UserError, match="run gate on this model"):
        deploy(replace(inputs, bundle=other.folder), models.uri, LocalTarget())


def test_a_model_that_went_into_service_meanwhile_is_not_overwritten_unseen(models: Models) -> None:
    late = models.judged("late", shift=0.01)
    models.registry.advance(None, "0123456789ab", "", "", "local", None)
    with pytest.raises(UserError, match="Version 0123456789ab went into service after the gate compared with none"):
        deploy(late, models.uri, LocalTarget())
    assert models.registry.serving() == "0123456789ab"


def test_a_deployer_that_is_overtaken_while_it_checks_loses(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = models.judged("slow")

    class OvertakenTarget(LocalTarget):
        name = "local"

        def rollout(self, candidate: Candidate) -> "_GeneratorContextManager[str]":
            candidate.registry.advance(None, "0123456789ab", "", "", "local", None)
            return super().rollout(candidate)

    with pytest.raises(UserError, match="another deploy put 0123456789ab there first"):
        deploy(inputs, models.uri, OvertakenTarget())
    assert models.registry.serving() == "0123456789ab"


def test_an_earlier_version_is_put_back_as_carefully(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    first = deploy(models.judged("first", shift=0.02), models.uri, LocalTarget())
    second = deploy(models.judged("second"), models.uri, LocalTarget())
    back = roll_back(models.uri, LocalTarget(), first.version)
    assert (back.version, back.champion, back.figures) == (first.version, second.version, first.figures)
    assert models.registry.serving() == first.version
    capsys.readouterr()
    print_models(models.uri)
    listed = capsys.readouterr().out.splitlines()
    assert re.search(rf"^{first.version}  serving  \d", listed[1])
    assert re.search(rf"^{second.version}  {' ' * 7}  \d", listed[2])


def test_a_version_that_never_was_cannot_be_put_back(models: Models) -> None:
    with pytest.raises(UserError, match="There is no version 0123456789ab"):
        roll_back(models.uri, LocalTarget(), "0123456789ab")


def test_make_lists_the_models_and_refuses_to_go_back_to_none(store_environment: RunningStore) -> None:
    def make(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["make", "--silent", *words], cwd=ROOT, capture_output=True, text=True, check=False)

    listed = make("models")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "version" in listed.stdout
    assert "name a version: make rollback VERSION=" in make("rollback").stderr
    unknown = make("rollback", "VERSION=0123456789ab", "TARGET=local")
    assert unknown.returncode != 0
    assert unknown.stderr.startswith("error: There is no version 0123456789ab in ")
    # With the address of a store a cluster is meant, and there is none.
    elsewhere = make("rollback", "VERSION=0123456789ab", "KUBECONFIG=/none")
    assert elsewhere.stderr.startswith("error: There is no cluster: this is not a pod, and KUBECONFIG")


def test_an_unknown_target_and_options_of_none_are_named() -> None:
    with pytest.raises(UserError, match="no target 'docker'"):
        open_target("docker", "{}")
    with pytest.raises(UserError, match="takes no options"):
        open_target("local", '{"namespace": "x"}')


def test_no_models_yet_is_said(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    print_models(models.uri)
    assert "no versions" in capsys.readouterr().out


def test_the_step_runs_from_a_shell_and_a_broken_verdict_is_one_sentence(models: Models) -> None:
    inputs = models.judged("first")
    inputs.verdict.write_text("{}")
    paths = ["--bundle", inputs.bundle, "--predictions", inputs.predictions, "--shard-index", inputs.shard_index]
    command = [sys.executable, "-m", "components.deploy", "deploy", *map(str, paths), "--verdict", str(inputs.verdict)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert re.fullmatch(r"error: .* cannot be read as a verdict \(.*\); run gate again\.\n", run.stderr)
