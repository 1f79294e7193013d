"""What `make manifests VERSION=…` writes: an InferenceService that serves a version with nothing but kubectl apply."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import UserError
from components.core.inference_service import served
from components.deploy.manifest import served_by
from pipeline.compile import Images
from pipeline.manifests import Published, build, build_service
from tests.manifests.conftest import OVERLAYS, of_kind, overlay
from tests.schemas import custom_problem

VERSION = "3f2a91c04d5e"


def written(name: str, tag: str = "v1", **more: Any) -> dict[str, Any]:
    """The objects for an overlay, by kind."""
    made = build_service(name, build(name, Images("", tag)), Published(VERSION, **more))
    return {body["kind"]: body for body in yaml.safe_load_all(made)}


@pytest.mark.parametrize("name", OVERLAYS)
def test_it_names_all_that_serving_takes_and_everything_it_names_is_there(name: str) -> None:
    objects = written(name)
    service, runtime = objects["InferenceService"], objects["ServingRuntime"]
    assert [custom_problem(body) for body in objects.values()] == [None, None]
    predictor = service["spec"]["predictor"]
    assert served_by(service) == served(VERSION).on(runtime["metadata"]["name"])
    assert predictor["serviceAccountName"] in of_kind(overlay(name), "ServiceAccount")
    assert predictor["storageContainerName"] in of_kind(overlay(name), "ClusterStorageContainer")
    assert {body["metadata"]["namespace"] for body in objects.values()} == {"bin-counter"}
    assert predictor["minReplicas"] >= 1


def test_another_image_is_another_runtime_and_the_same_one_the_same() -> None:
    names = [written("local", tag)["ServingRuntime"]["metadata"]["name"] for tag in ("v1", "v1", "v2")]
    assert names[0] == names[1] != names[2]


def test_a_laptop_gets_one_small_replica() -> None:
    predictor = written("local")["InferenceService"]["spec"]["predictor"]
    assert predictor["minReplicas"] == 1
    assert "resources" not in predictor["model"]
    assert written("gke")["InferenceService"]["spec"]["predictor"]["minReplicas"] == 2


def test_a_gpu_and_an_image_with_the_model_can_be_chosen() -> None:
    uri = "oci+native://mirror.example/bin-counter-model:{version}"
    objects = written("airgapped", storage_uri=uri, runtime="bin-counter-gpu")
    predictor = objects["InferenceService"]["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == f"oci+native://mirror.example/bin-counter-model:{VERSION}"
    assert "storageContainerName" not in predictor
    [container] = objects["ServingRuntime"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("published", "sentence"),
    [
        (Published("latest"), "'latest' is not a version; it is twelve hex digits"),
        (Published(VERSION, storage_uri="oci+native://host/model:1"), "names no version; write {version}"),
        (
            Published(VERSION, runtime="bin-counter-gpu"),
            "no ServingRuntime bin-counter-gpu in the overlay local; there is",
        ),
    ],
)
def test_what_cannot_be_served_is_one_sentence(published: Published, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        build_service("local", build("local", Images("", "v1")), published)
    assert str(caught.value).endswith(".")


def test_the_command_writes_both_files_and_says_how_to_apply_them(tmp_path: Path) -> None:
    words = ["-m", "pipeline", "manifests", "--tag", "v1", "--version", VERSION, "--output", str(tmp_path)]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in ("manifests.yaml", "inference-service.yaml"):
        assert f"kubectl apply --server-side -f {tmp_path / name}" in ended.stdout
        assert list(yaml.safe_load_all((tmp_path / name).read_text()))
