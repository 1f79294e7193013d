"""What a run on a cluster says at its end, which version its gate compares with, and the buckets it begins with."""

import base64
import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kubernetes import client

from components.champion.champion import look
from components.champion.component import champion
from components.core.buckets import make_buckets
from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.recounts import Recount, keep
from components.core.registry import Figures, Registry
from components.core.run import CHANGED, UNCHANGED
from components.core.runs_api import RunsApi
from components.core.store import open_store
from components.summarise.own_token import own_headers
from components.summarise.summarise import summarise
from pipeline.local_store import RunningStore
from pipeline.parameters import Parameters
from tests.fakes.kfp_api import KfpApi, serving

FIGURES = Figures(
    accuracy=0.55,
    accuracy_ci95=(0.5, 0.6),
    baseline_accuracy=0.3,
    loss=1.1,
    rmse=0.9,
    within_one=0.9,
    n_test=1000,
)


@pytest.fixture
def models_uri(store_environment: RunningStore, request: pytest.FixtureRequest) -> str:
    name = f"models-{abs(hash(request.node.name)) % 10**8}"
    make_buckets([name])
    return f"s3://{name}"


@pytest.fixture
def api() -> KfpApi:
    played = KfpApi(states=["deployed"])
    played.runs["r1"] = {"run_id": "r1", "display_name": "bin-counter", "experiment_id": ""}
    return played


@pytest.fixture
def runs(api: KfpApi) -> Iterator[RunsApi]:
    with serving(api) as address:
        yield RunsApi(address)


@pytest.mark.parametrize(
    ("state", "title", "sentence"),
    [
        ("deployed", "deployed", "its model was deployed."),
        ("deployed-again", "deployed", "its model was deployed."),
        ("kept", "kept by the gate", "the gate did not let its model through; its log"),
        ("unchanged", "nothing changed", "nothing changed since the version in service was made."),
        ("step-failed", "failed", "FAILED in ingest-metadata: The bucket no-such-bucket is not there; check SOURCE."),
        (
            "driver-failed",
            "failed in Kubeflow Pipelines itself",
            "own driver, before train began: it ended with exit code 1 and without a word; see its log.",
        ),
        ("cancelled", "cancelled", "cancelled in train."),
    ],
)
def test_each_kind_of_end_is_told_apart(
    api: KfpApi, runs: RunsApi, models_uri: str, state: str, title: str, sentence: str
) -> None:
    api.states = [state]
    text = summarise(runs, "r1", models_uri)
    assert text.startswith(f"# Run r1: {title}\n")
    assert sentence in text
    assert "No model is in service." in text


def test_the_gates_own_words_are_in_the_summary(api: KfpApi, runs: RunsApi, models_uri: str) -> None:
    api.states = ["kept"]
    api.logs = {"container-impl": "gate: keep. Version aaaaaaaaaaaa, which serves now, is better.\n"}
    assert "did not let its model through: Version aaaaaaaaaaaa, which serves now, is better." in summarise(
        runs, "r1", models_uri
    )


def test_the_version_in_service_is_named_with_its_figures(runs: RunsApi, models_uri: str) -> None:
    Registry.open(models_uri).advance(None, "3f2a91c04d5e", "", "", "kserve", FIGURES)
    assert "In service: version 3f2a91c04d5e, accuracy 55.0% (50.0% to 60.0%" in summarise(runs, "r1", models_uri)


def test_an_end_is_summarised_even_when_the_store_and_the_api_are_away(store_environment: RunningStore) -> None:
    text = summarise(RunsApi("http://127.0.0.1:1"), "r1", "s3://no-such-bucket-at-all")
    assert "How it ended could not be read: KFP at http://127.0.0.1:1 cannot be reached" in text
    assert "What is in service could not be read: The bucket" in text


def account_token(folder: Path, subject: str) -> Path:
    """A token as the kubelet mounts it, of which only the subject is read."""
    payload = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    (folder / "token").write_text(f"e30.{payload}.c2lnbmF0dXJl")
    return folder / "token"


class Asked(Cluster):
    """A Kubernetes API that gives tokens."""

    def __init__(self) -> None:
        super().__init__(client.ApiClient(client.Configuration(host="http://127.0.0.1:1")))

    def create(self, path: str, body: dict[str, Any]) -> dict[str, dict[str, str]]:
        self.asked = path, body["spec"]["audiences"]
        return {"status": {"token": "fresh"}}


def test_a_step_asks_with_a_token_of_its_own_account_for_kfp_alone(tmp_path: Path) -> None:
    kubernetes = Asked()
    mounted = account_token(tmp_path, "system:serviceaccount:kubeflow:bin-counter-pipeline")
    assert own_headers(kubernetes, mounted) == {"Authorization": "Bearer fresh"}
    path = "/api/v1/namespaces/kubeflow/serviceaccounts/bin-counter-pipeline/token"
    assert kubernetes.asked == (path, ["pipelines.kubeflow.org"])


def test_a_step_without_an_account_asks_without_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert own_headers(Asked(), tmp_path / "none") == {}
    assert "No token for KFP's API" in capsys.readouterr().out


INPUTS = {"data_uri": "s3://bin-counter", "limit": 5, "epochs": 2, "pipeline_image": "bin-counter-pipeline:v1"}


@pytest.fixture
def source() -> str:
    address = f"s3://bin-source/{uuid4().hex}"
    for key in ("metadata/00001.json", "bin-images/00001.jpg"):
        open_store(address).put(key, b"{}")
    return address


def test_what_a_run_sees_changes_with_the_source_its_parameters_and_its_images(models_uri: str, source: str) -> None:
    inputs = {**INPUTS, "source": source}
    first = look("", "", True, inputs, models_uri)
    assert look("", "", True, inputs, models_uri) == first
    assert look("", "", True, {**inputs, "epochs": 3}, models_uri).run != first.run
    assert look("", "", True, {**inputs, "pipeline_image": "bin-counter-pipeline:v2"}, models_uri).run != first.run
    open_store(source).put("metadata/00002.json", b"{}")
    grown = look("", "", True, inputs, models_uri)
    assert grown.snapshot != first.snapshot
    assert grown.run != first.run


def test_labels_that_people_counted_are_news_and_recounts_that_are_none_are_not(models_uri: str, source: str) -> None:
    data_uri = f"s3://bin-counter/{uuid4().hex}"
    inputs = {**INPUTS, "source": source, "data_uri": data_uri}
    first = look("", "", True, inputs, models_uri)
    counted = Recount("bin-images/00001.jpg", 3, 2, "ranked", 1.0, 0.5)
    keep(open_store(data_uri), [counted], datetime(2026, 11, 27, tzinfo=UTC))
    assert look("", "", True, inputs, models_uri) == first
    keep(open_store(data_uri), [replace(counted, is_label=True)], datetime(2026, 11, 28, tzinfo=UTC))
    relabelled = look("", "", True, inputs, models_uri)
    assert relabelled.snapshot.startswith(f"{first.snapshot}+recounts-")
    assert relabelled.run != first.run


def test_nothing_is_new_only_for_what_the_version_in_service_was_made_from(models_uri: str, source: str) -> None:
    inputs = {**INPUTS, "source": source}
    made_from = look("", "", True, inputs, models_uri)
    assert made_from.news == CHANGED
    registry = Registry.open(models_uri)
    before = registry.advance(None, "3f2a91c04d5e", "", made_from.run, "kserve", FIGURES)
    assert look("", "", True, inputs, models_uri).news == UNCHANGED
    assert look("", "", False, inputs, models_uri).news == CHANGED  # someone asked for this run
    registry.advance(before, "aaaaaaaaaaaa", "3f2a91c04d5e", "another run", "kserve", FIGURES)
    assert look("", "", True, inputs, models_uri).news == CHANGED


def test_the_gate_compares_with_the_version_in_service_or_the_one_given_and_again_with_the_same(
    models_uri: str, source: str
) -> None:
    inputs = {**INPUTS, "source": source}
    found = look("", "", False, inputs, models_uri)
    assert found.version == ""
    Registry.open(models_uri).advance(None, "3f2a91c04d5e", "", found.run, "kserve", FIGURES)
    assert (
        look("", "", False, inputs, models_uri).version == ""
    )  # the question of that run, so that its answer is cached
    assert look("", "", False, {**inputs, "epochs": 3}, models_uri).version == "3f2a91c04d5e"
    assert look("bbbbbbbbbbbb", "", False, inputs, models_uri).version == "bbbbbbbbbbbb"


def test_all_that_decides_a_run_is_in_its_fingerprint() -> None:
    """A parameter that a run's outcome depends on, and that is missing there, would be "nothing changed"."""
    looked_at = set(inspect.signature(champion.python_func).parameters) - {"given"}
    assert set(Parameters.model_fields) <= looked_at


def test_making_buckets_twice_makes_them_once(store_environment: RunningStore) -> None:
    assert make_buckets(["made-once"]) == ["made-once"]
    assert make_buckets(["made-once"]) == []
    assert list(open_store("s3://made-once").list()) == []


def test_wrong_keys_for_the_store_are_one_sentence(
    store_environment: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-wrong-wrong")
    with pytest.raises(UserError, match="check the keys in the secret"):
        make_buckets(["never"])


def test_a_store_that_does_not_come_up_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x" * 12)
    with pytest.raises(UserError, match="cannot be reached; check AWS_ENDPOINT_URL"):
        make_buckets(["never"], wait_seconds=0)


def test_a_missing_secret_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(UserError, match="it comes from the config map bin-counter-store"):
        make_buckets(["never"])
