"""The kserve target on a real kube-apiserver, with the CRDs and with nothing allowed but what manifests/ grants.

The scenarios are those of test_kserve.py but for faults of the API server itself, which a real one has none of on
demand. Needs KUBEBUILDER_ASSETS, as `setup-envtest use --print path` prints it.
"""

from collections.abc import Callable, Iterator
from typing import cast
from uuid import uuid4

import pytest

from components.core.registry import Registry
from pipeline.local_store import RunningStore
from tests.cluster.control_plane import ControlPlane
from tests.cluster.real_api import RealApi, node
from tests.deploy.golden_model import Model
from tests.deploy.test_kserve import (  # noqa: F401 - fixtures, and the scenarios that are to run here
    World,
    granted,
    models,
    server_of,
    serving_a,
    storage_container,
    test_a_canary_is_refused_where_kserve_splits_nothing_although_the_gateway_api_is_there,
    test_a_canary_takes_its_share_and_then_all,
    test_a_canary_that_does_not_come_up_is_taken_back,
    test_a_canary_that_fails_under_traffic_is_taken_back,
    test_a_deploy_killed_half_way_is_picked_up_by_the_next,
    test_a_deploy_killed_while_its_canary_has_a_share_is_picked_up_by_the_next,
    test_a_deploy_overtaken_by_another_target_puts_back_what_served,
    test_a_failure_of_the_first_deploy_leaves_nothing,
    test_a_first_deploy_killed_half_way_leaves_nothing_when_the_next_fails,
    test_a_knative_canary_is_a_share_for_the_newest_revision,
    test_a_missing_permission_is_named_and_nothing_is_left,
    test_a_namespace_that_does_not_exist_is_named,
    test_a_pod_that_has_restarted_in_its_life_is_healthy_once_it_is_ready,
    test_a_version_that_another_tool_keeps_is_not_taken_unless_asked_and_it_is_said_whose_it_is,
    test_a_version_that_never_gets_ready_is_given_up_with_the_reason_and_without_what_is_always_said,
    test_a_wrong_answer_keeps_the_new_version_out,
    test_an_earlier_version_is_rolled_back_to_by_the_same_way,
    test_another_serving_image_rolls_nothing_until_a_deploy_has_checked_it,
    test_any_name_works_with_what_manifests_grant,
    test_from_a_shell_a_failed_deploy_is_one_sentence_and_status_1,
    test_the_first_deploy_serves,
    test_the_second_runs_beside_the_first_before_it_takes_over_and_no_request_is_lost,
    test_twice_changes_nothing,
    test_two_at_once_cannot_both_win_and_the_loser_says_so,
    test_what_cannot_become_ready_is_told_at_once_and_the_old_version_stays,
    test_what_the_platform_says_about_scaling_stays,
    test_what_works_beside_but_not_in_place_is_put_back,
)
from tests.fakes.kserve_cluster import NAMESPACE, KServeCluster, running
from tests.fakes.kubernetes_api import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    api = RealApi(control_plane)
    with node(api, tmp_path_factory.mktemp("node")):
        yield api


@pytest.fixture
def world(
    store_environment: RunningStore,
    api: RealApi,
    models: dict[str, Model],  # noqa: F811 - the fixture
    server_of: Callable[[str], str],  # noqa: F811
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    api.clear()
    kind = getattr(request, "param", "")
    same = cast("ApiServer", api)  # it has the same methods
    kserve = KServeCluster(same, server_of, knative=kind == "Knative", gateway_api=kind != "no routes")
    registry = Registry.open(f"s3://models/{uuid4().hex}")
    api.put("clusterstoragecontainers", "", storage_container(registry))
    image = api.must_have("servingruntimes", NAMESPACE, "bin-counter")
    with running(kserve):
        world = World(same, api.plane.url, kserve, registry, models, api.plane.certificate)
        yield world
        world.gateway.shutdown()
    api.put("servingruntimes", NAMESPACE, image)
    api.rules = granted()
