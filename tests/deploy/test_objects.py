"""The objects that deploy applies, against the CRD's schema, and how little of them is said."""

import itertools
import re

import pytest

from components.core.errors import UserError
from components.core.inference_service import Served, runtime_copy, served
from components.deploy.manifest import (
    canary_of,
    canary_service,
    inference_service,
    served_by,
    shadow_service,
    without_model,
)
from components.deploy.options import KServeOptions
from tests.schemas import custom_problem

OLD, NEW = (served(version).on("bin-counter-0123456789") for version in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
OPTIONS = {mode: KServeOptions(mode=mode, canary_percent=10) for mode in ("Standard", "Knative")}


def objects(mode: str) -> dict[str, dict]:
    options = OPTIONS[mode]
    return {
        "service": inference_service(options, NEW),
        "beside": shadow_service(options, NEW),
        "canary": canary_service(options, OLD, NEW, 10),
        "without": without_model(options) | {"spec": {"predictor": {}}},
    }


@pytest.mark.parametrize(("mode", "kind"), itertools.product(OPTIONS, ["service", "beside", "canary", "without"]))
def test_every_object_is_one_that_kserve_accepts(mode: str, kind: str) -> None:
    assert custom_problem(objects(mode)[kind]) is None


def test_the_schema_would_tell_a_wrong_field_and_a_missing_one() -> None:
    wrong = inference_service(OPTIONS["Standard"], NEW)
    wrong["spec"]["predictor"]["model"]["storageURL"] = "s3://models"
    assert "storageURL" in (custom_problem(wrong) or "")
    nameless = canary_service(OPTIONS["Standard"], OLD, NEW, 10)
    del nameless["spec"]["canary"][0]["predictor"]["model"]["name"]
    assert "'name' is a required property" in (custom_problem(nameless) or "")


def test_the_mode_is_said_because_clusters_default_to_another() -> None:
    for mode, one in itertools.product(OPTIONS, ["service", "beside", "canary"]):
        assert objects(mode)[one]["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode


def test_a_version_is_fetched_from_where_it_was_published() -> None:
    uri = inference_service(OPTIONS["Standard"], NEW)["spec"]["predictor"]["model"]["storageUri"]
    assert uri == "s3://models/bin-counter/versions/bbbbbbbbbbbb"
    assert served("bbbbbbbbbbbb", "s3://b/p").storage_uri == "s3://b/p/bin-counter/versions/bbbbbbbbbbbb"


def test_a_version_may_lie_in_an_image_instead_which_nothing_fetches() -> None:
    image = served("bbbbbbbbbbbb", storage_uri="oci+native://registry.example/model:{version}")
    predictor = inference_service(OPTIONS["Standard"], image)["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == "oci+native://registry.example/model:bbbbbbbbbbbb"
    assert "storageContainerName" not in predictor
    assert inference_service(OPTIONS["Standard"], NEW)["spec"]["predictor"]["storageContainerName"] == "bin-counter"


def test_every_container_has_the_name_that_the_webhook_of_kserve_looks_for() -> None:
    [share] = objects("Standard")["canary"]["spec"]["canary"]
    assert share["predictor"]["model"]["name"] == "kserve-container"


def runtime(image: str) -> dict:
    formats = [{"name": "bin-counter", "autoSelect": True}]
    spec = {"supportedModelFormats": formats, "containers": [{"name": "kserve-container", "image": image}]}
    return {"metadata": {"name": "bin-counter", "namespace": "models", "resourceVersion": "7"}, "spec": spec}


def test_a_copy_of_a_runtime_is_named_after_what_is_in_it_and_never_chosen_by_itself() -> None:
    first, again, other = (runtime_copy(runtime(image), "mine") for image in ("serve:1", "serve:1", "serve:2"))
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert re.fullmatch(r"mine-[0-9a-f]{10}", first["metadata"]["name"])
    assert "resourceVersion" not in first["metadata"]
    assert first["spec"]["supportedModelFormats"] == [{"name": "bin-counter"}]
    assert runtime_copy(first, "mine")["metadata"]["name"] == first["metadata"]["name"]
    assert custom_problem(first) is None


def test_what_runs_can_be_read_back() -> None:
    assert served_by(inference_service(OPTIONS["Standard"], NEW)) == NEW
    canary = canary_service(OPTIONS["Standard"], OLD, NEW, 10)
    assert (served_by(canary), canary_of(canary)) == (OLD, NEW)
    assert canary_of(inference_service(OPTIONS["Standard"], NEW)) is None
    assert served_by(inference_service(OPTIONS["Standard"], Served("", "s3://elsewhere"))) == Served(
        "", "s3://elsewhere"
    )
    assert served_by({"spec": {"predictor": {"model": {"runtime": "bin-counter"}}}}) is None


def test_only_the_version_is_ours_to_say() -> None:
    predictor = inference_service(OPTIONS["Standard"], NEW)["spec"]["predictor"]
    assert set(predictor) == {"labels", "serviceAccountName", "storageContainerName", "model"}
    assert set(predictor["model"]) == {"modelFormat", "runtime", "storageUri"}


@pytest.mark.parametrize(("replicas", "asked"), [(1, 2), (2, 2), (4, 4)])
def test_a_canary_never_takes_the_last_pod_of_the_stable_version(replicas: int, asked: int) -> None:
    spec = canary_service(OPTIONS["Standard"], OLD, NEW, 10, replicas)["spec"]
    assert (spec["predictor"]["minReplicas"], spec["canary"][0]["predictor"]["minReplicas"]) == (asked, 1)


def test_the_one_beside_takes_no_traffic_from_outside() -> None:
    beside = objects("Standard")["beside"]
    assert beside["metadata"]["name"] == "bin-counter-candidate"
    assert beside["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "The deploy options are not JSON"),
        ('{"canary": 5}', "There is no deploy option 'canary'; there are namespace, name"),
        ('{"canary_percent": 100}', "The deploy option canary_percent cannot be used"),
        ('{"namespace": "Not A Name"}', "The deploy option namespace cannot be used"),
        ('{"storage_uri": "oci+native://registry.example/model"}', "The deploy option storage_uri cannot be used"),
        ('{"mode": "Serverless"}', "The deploy option mode cannot be used"),
        ("[]", "The deploy option the whole cannot be used"),
    ],
)
def test_options_that_cannot_be_meant_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}.*\\.$"):
        KServeOptions.parse(text)


def test_no_options_are_the_defaults() -> None:
    assert KServeOptions.parse("") == KServeOptions.parse("{}") == KServeOptions()
