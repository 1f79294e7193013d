"""What a run on a cluster says at its end, which version its gate compares with, and the buckets it begins with."""

import pytest

from components.champion.component import champion
from components.core.buckets import make_buckets
from components.core.errors import UserError
from components.core.registry import Figures, Registry
from components.core.store import open_store
from components.summarise.summarise import Ending, summarise

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
def models_uri(store_environment, request):
    name = f"models-{abs(hash(request.node.name)) % 10**8}"
    make_buckets([name])
    return f"s3://{name}"


def test_a_good_end_names_the_version_in_service_and_its_figures(models_uri):
    Registry.open(models_uri).advance(None, "3f2a91c04d5e", "", "", "kserve", FIGURES)
    text = summarise(Ending("SUCCEEDED", "runs/bin-counter-x1", ""), models_uri)
    assert text.startswith("# Run bin-counter-x1: succeeded")
    assert "version `3f2a91c04d5e` (accuracy 55.0%, 95 % interval 50.0% to 60.0%" in text


def test_a_bad_end_passes_on_the_reason_and_what_still_serves(models_uri):
    text = summarise(Ending("FAILED", "bin-counter-x1", "task train failed"), models_uri)
    assert "KFP says: task train failed" in text
    assert "No model is in service." in text


def test_an_end_is_summarised_even_when_the_store_is_away(store_environment, monkeypatch):
    text = summarise(Ending("FAILED", "bin-counter-x1", ""), "s3://no-such-bucket-at-all")
    assert "could not be read: The bucket" in text


def test_the_gate_compares_with_the_version_in_service_unless_one_is_given(models_uri):
    assert champion.python_func(given="", models_uri=models_uri) == ""
    Registry.open(models_uri).advance(None, "3f2a91c04d5e", "", "", "kserve", FIGURES)
    assert champion.python_func(given="", models_uri=models_uri) == "3f2a91c04d5e"
    assert champion.python_func(given="aaaaaaaaaaaa", models_uri=models_uri) == "aaaaaaaaaaaa"


def test_making_buckets_twice_makes_them_once(store_environment):
    assert make_buckets(["made-once"]) == ["made-once"]
    assert make_buckets(["made-once"]) == []
    assert list(open_store("s3://made-once").list()) == []


def test_wrong_keys_for_the_store_are_one_sentence(store_environment, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-wrong-wrong")
    with pytest.raises(UserError, match="check the keys in the secret"):
        make_buckets(["never"])


def test_a_store_that_does_not_come_up_is_one_sentence(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x" * 12)
    with pytest.raises(UserError, match="cannot be reached; check AWS_ENDPOINT_URL"):
        make_buckets(["never"], wait_seconds=0)


def test_a_missing_secret_is_one_sentence(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(UserError, match="it comes from the config map bin-counter-store"):
        make_buckets(["never"])
