"""What the steps share: the site, its store, drawn bins in a bucket of the suite's own, and the clearing up."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pytest

from components.core.buckets import make_buckets
from components.core.layout import SOURCE_BUCKET, image_key, metadata_key
from components.core.store import open_store
from drawn.bins import draw_bins
from pipeline.source.fill import fill
from tests.cluster.acceptance.runs import Submission, submit
from tests.cluster.acceptance.site import (
    MODELS_NAMESPACE,
    STORE,
    Object,
    Site,
    find,
    forwarded,
    has_api,
    kubectl,
    objects,
)

BINS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every step of this folder needs a cluster, and may take long."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def cluster() -> None:
    """A cluster that answers, with the manifests applied."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG points to no cluster")
    answer = kubectl("get", "namespace", MODELS_NAMESPACE, "-o", "name", check=False)
    if "namespace/" not in answer:
        pytest.skip(f"the cluster of KUBECONFIG has no overlay of manifests/ applied ({answer.strip()})")


@pytest.fixture(scope="session")
def kserve(cluster: None) -> None:
    """A cluster with KServe."""
    if not has_api("serving.kserve.io"):
        pytest.skip("the cluster has no KServe")


@pytest.fixture(scope="session")
def gateway(kserve: None) -> None:
    """A cluster whose KServe makes HTTPRoutes."""
    if not has_api("gateway.networking.k8s.io"):
        pytest.skip("the cluster has no Gateway API")


@pytest.fixture(scope="session")
def store(cluster: None) -> Iterator[None]:
    """AWS_* variables that lead to the cluster's store."""
    secret = find("secret", MODELS_NAMESPACE, STORE)
    if secret is None:
        pytest.skip(f"the cluster has no Secret {STORE} in {MODELS_NAMESPACE}")
    keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    with forwarded(MODELS_NAMESPACE, STORE, 8333) as address, pytest.MonkeyPatch.context() as environment:
        for name, value in keys.items():
            environment.setenv(name, value)
        environment.setenv("AWS_ENDPOINT_URL", address)
        environment.setenv("AWS_REGION", "us-east-1")
        yield


@pytest.fixture(scope="session")
def site(cluster: None, store: None) -> Iterator[Site]:
    """The cluster's KFP under names of the suite's own; what the runs and deployments left is removed at the end."""
    host = os.environ.get("KFP_HOST", "")
    if not host:
        pytest.skip("KFP_HOST names no Kubeflow Pipelines")
    site = Site(host)
    yield site
    empty(site.models_uri)
    kubectl("-n", MODELS_NAMESPACE, "delete", "inferenceservice", site.name, "--ignore-not-found", check=False)
    kubectl("-n", MODELS_NAMESPACE, "delete", "lease", f"{site.name}-deploy", "--ignore-not-found", check=False)
    # The deploy step copies the ServingRuntime under the InferenceService's name.
    for runtime in objects("servingruntimes", MODELS_NAMESPACE):
        if runtime["metadata"]["name"].startswith(site.name):
            kubectl("-n", MODELS_NAMESPACE, "delete", "servingruntime", runtime["metadata"]["name"], check=False)


@pytest.fixture(scope="session")
def bins(site: Site, store: None) -> Iterator[Site]:
    """The site with drawn bins in its source; these, the shards and the models are removed at the end."""
    make_buckets([SOURCE_BUCKET])
    fill_source(site, BINS)
    yield site
    for uri in (site.source, site.data_uri):
        empty(uri)


def empty(uri: str) -> None:
    """Remove all objects below an address."""
    place = open_store(uri)
    for entry in list(place.list()):
        place.delete(entry.key)


def fill_source(site: Site, count: int) -> None:
    """Draw the first `count` bins into the site's source; those that are there already stay."""
    files = chain.from_iterable(
        [(metadata_key(one.image_id), one.metadata), *([(image_key(one.image_id), one.jpeg)] if one.jpeg else [])]
        for one in draw_bins(count)
    )
    fill(open_store(site.source), files)


@dataclass
class Story:
    """The runs that later steps build on, each made when the first step asks for it."""

    site: Site
    told: dict[str, tuple[Submission, Object]] = field(default_factory=dict)

    def run(self, name: str, *assignments: str, **options: object) -> tuple[Submission, Object]:
        """The run of that name and its end, submitted once."""
        if name not in self.told:
            submission = submit(self.site, *assignments, **options)  # type: ignore[arg-type]
            submission.ended()
            self.told[name] = submission, submission.run()
        return self.told[name]

    def first(self) -> tuple[Submission, Object]:
        """A whole run on drawn bins."""
        return self.run("first")


@pytest.fixture(scope="session")
def story(bins: Site) -> Story:
    """The runs of this session."""
    return Story(bins)
