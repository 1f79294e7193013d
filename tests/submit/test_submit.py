"""Submitting from a laptop: against a KFP API over HTTP, on every kind of Kubeflow, and when something is wrong."""

import argparse
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme

from components.core.errors import UserError
from components.core.registry import Figures, Registry
from pipeline import connection, follow, submit
from pipeline.compile import Compiled, compile_pipeline
from pipeline.connection import Server, connect
from pipeline.local_store import RunningStore
from pipeline.resources import Placement
from pipeline.submit import read_cron, read_parameters
from tests.fakes.kfp_api import KfpApi, serving

ROOT = Path(__file__).parent.parent.parent
GOOD = ["began", "training", "deployed"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (connection.TOKEN_VARIABLE, connection.COOKIES_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # The tests may run while somebody edits the code.
    monkeypatch.setattr("pipeline.compile.revision", lambda: "3f2a91c04d5e")
    monkeypatch.setattr(submit, "Patience", lambda start: follow.Patience(poll=0.01, start=start))
    monkeypatch.setattr(submit, "compile_pipeline", compiled_once)


COMPILED: dict[str, tuple[str, Compiled]] = {}


def compiled_once(placement: Placement, folder: Path) -> Compiled:
    """What `compile_pipeline` gives, made once for each placement: it takes seconds, and is not what is tested here."""
    if repr(placement) not in COMPILED:
        compiled = compile_pipeline(placement, folder)
        COMPILED[repr(placement)] = compiled.path.read_text(), compiled
    text, compiled = COMPILED[repr(placement)]
    path = folder / compiled.path.name
    path.write_text(text)
    return replace(compiled, path=path)


@pytest.fixture
def api() -> KfpApi:
    return KfpApi(states=GOOD)


@pytest.fixture
def host(api: KfpApi) -> Iterator[str]:
    with serving(api) as address:
        yield address


def run(*words: Any, schedule: bool = False) -> Any:
    parser = argparse.ArgumentParser()
    (submit.add_schedule_arguments if schedule else submit.add_arguments)(parser)
    return submit.run(parser.parse_args(["--tag", "v1", *words]))


def test_a_run_is_started_with_the_given_parameters_and_followed_to_its_end(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--host", host, "--preset", "gke", "EPOCHS=3", 'GPU_NODE_SELECTOR={"pool": "gpu"}') == 0
    (sent,) = api.runs.values()
    assert sent["runtime_config"]["parameters"] == {
        "pipeline_image": "bin-counter-pipeline:v1",
        "train_image": "bin-counter-train:v1",
        "epochs": 3,
        "gpu_node_selector": {"pool": "gpu"},
    }
    assert sent["service_account"] == "bin-counter-pipeline"
    printed = capsys.readouterr().out
    assert steps_in(printed)[1:3] == [("champion", "runs"), ("champion", "done")]
    assert [state for step, state in steps_in(printed) if step == "train"] == ["runs", "done"]
    assert steps_in(printed)[-2:] == [("deploy", "done"), ("summarise", "done")]
    assert "The run succeeded, and its model was deployed." in printed
    assert f"{host}/#/runs/details/{sent['run_id']}" in printed.splitlines()[-1]


def steps_in(printed: str) -> list[tuple[str, str]]:
    return re.findall(r"^  ([a-z-]+) +(.+)$", printed, re.MULTILINE)


def test_the_same_code_is_uploaded_once(api: KfpApi, host: str) -> None:
    run("--host", host, "--no-follow")
    run("--host", host, "--no-follow")
    uploads = [path for method, path in api.requests if "/upload" in path]
    assert len(uploads) == 2  # the pipeline, and its version under the revision's name
    first, second = api.runs.values()
    assert first["pipeline_version_reference"] == second["pipeline_version_reference"]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("step-failed", "The run FAILED in ingest-metadata: The bucket no-such-bucket is not there; check SOURCE."),
        (
            "driver-failed",
            "own driver, before train began: it ended with exit code 1 and without a word; see its log.",
        ),
        ("cancelled", "The run was cancelled in train."),
    ],
)
def test_a_bad_end_is_told_with_its_step_and_its_reason_and_status_1(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str], state: str, sentence: str
) -> None:
    api.states = ["began", state]
    assert run("--host", host) == 1
    assert sentence in capsys.readouterr().out


def test_what_the_driver_failed_with_is_read_from_its_log(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["driver-failed"]
    api.logs["system-container-driver"] = (
        "I1126 main.go:80] input\nF1126 main.go:91] KFP driver: OneOf: nothing found\n"
    )
    assert run("--host", host) == 1
    assert "driver, before train began: OneOf: nothing found." in capsys.readouterr().out


def test_what_kfps_launcher_gave_a_step_up_for_is_read_from_the_log(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["step-died"]
    api.logs["container-impl"] = "F1126 main.go:59] failed to execute component: failed to upload artifact bundle\n"
    assert run("--host", host) == 1
    assert "FAILED in ingest-metadata: failed to upload artifact bundle." in capsys.readouterr().out


def test_the_last_line_of_a_traceback_is_read_from_the_log(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["step-died"]
    trace = "Traceback (most recent call last):\n  File x.py\nModuleNotFoundError: No module named 'kfp'\n"
    api.logs["container-impl"] = trace
    assert run("--host", host) == 1
    assert "FAILED in ingest-metadata: ModuleNotFoundError: No module named 'kfp'." in capsys.readouterr().out


def test_what_the_gate_kept_is_told_with_its_reason_and_is_no_failure(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["training", "kept"]
    api.logs["executor"] = ""
    api.logs = {"container-impl": "gate: keep. Accuracy 30.0% is not above 35.0%; train longer.\n"}
    assert run("--host", host) == 0
    printed = capsys.readouterr().out
    assert "the gate did not let its model through: Accuracy 30.0% is not above 35.0%; train longer." in printed
    assert "deploy  " not in printed


def test_steps_from_the_cache_are_told_as_that(api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    api.states = ["began", "deployed-again"]
    assert run("--host", host) == 0
    cached = [step for step, state in steps_in(capsys.readouterr().out) if state.startswith("unchanged")]
    assert {"ingest-metadata", "tune-trial", "train", "gate"} <= set(cached)
    assert not {"champion", "deploy", "summarise"} & set(cached)


def test_a_run_with_nothing_new_is_told_as_that(api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    api.states = ["unchanged"]
    assert run("--host", host) == 0
    assert "nothing changed since the version in service was made" in capsys.readouterr().out


def test_a_connection_that_breaks_while_following_does_not_matter(api: KfpApi, host: str) -> None:
    api.drop = 3
    assert run("--host", host) == 0


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("unschedulable", "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu"),
        ("pulling", 'ImagePullBackOff: Back-off pulling image "bin-counter-train:v1"'),
    ],
)
def test_a_pod_that_waits_is_told_once_with_the_platforms_own_reason(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str], state: str, reason: str
) -> None:
    api.states = [state, state, state, *GOOD[1:]]
    assert run("--host", host) == 0
    train = [told for step, told in steps_in(capsys.readouterr().out) if step == "train"]
    assert train == [f"waits: {reason}", "runs", "done"]


def test_a_pod_that_never_starts_ends_the_following_and_leaves_the_run(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.states = ["unschedulable"]
    monkeypatch.setattr(submit, "Patience", lambda start: follow.Patience(poll=0.01, start=0.05))
    assert run("--host", host) == 1
    printed = capsys.readouterr().out
    assert "waits: Unschedulable: 0/3 nodes" in printed
    assert "The run was left as it is" in printed


def test_a_lost_pod_is_told_with_the_attempt_that_follows(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["training", "lost", "deployed"]
    assert run("--host", host) == 0
    assert "train              runs (attempt 2; before: pod deleted)" in capsys.readouterr().out


def test_a_token_that_expires_while_following_is_said_at_once(
    api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.token = "first"
    monkeypatch.setenv("KFP_TOKEN", "first")

    def expire(*_: Any) -> None:
        api.token = "second"

    monkeypatch.setattr("pipeline.follow.time.sleep", expire)
    with pytest.raises(UserError, match=r"does not let us in any more \(status 401.*Renew KFP_TOKEN.*the run goes on"):
        run("--host", host)
    assert api.looks == 1


def test_a_version_that_somebody_applied_to_the_cluster_is_used(api: KfpApi, host: str, tmp_path: Path) -> None:
    """By the names that the manifests of `make compile` give it, now and formerly."""
    for number, name in enumerate(("{}", "bin-counter-{}")):
        api.pipelines.clear()
        api.versions.clear()
        version = compile_pipeline(Placement(), tmp_path).version
        made = api._new(api.pipelines, "pipeline_id", display_name="bin-counter", namespace="")
        api._new(
            api.versions, "pipeline_version_id", display_name=name.format(version), pipeline_id=made["pipeline_id"]
        )
        run("--host", host, "--no-follow")
        assert [path for _, path in api.requests if "/upload" in path] == [], number


@pytest.mark.parametrize("tag", ["2.15.2", "2.16.0", "1.8.5"])
def test_a_kfp_that_retries_the_wrong_things_is_refused_with_that_reason(api: KfpApi, host: str, tag: str) -> None:
    api.tag = tag
    assert "a step again after a mistake of yours, and not when its pod was lost" in refused("--host", host)
    assert api.runs == {}


@pytest.mark.parametrize("tag", ["2.17.0", "v2.18.1", "unknown"])
def test_a_newer_kfp_or_one_without_a_version_is_taken(api: KfpApi, host: str, tag: str) -> None:
    api.tag = tag
    assert run("--host", host, "--no-follow") == 0


def test_the_end_tells_the_figures_where_the_models_can_be_read(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str], store_environment: RunningStore
) -> None:
    figures = Figures(
        accuracy=0.55, accuracy_ci95=(0.5, 0.6), baseline_accuracy=0.3, loss=1, rmse=0.9, within_one=0.9, n_test=9
    )
    models = f"s3://models/{uuid4().hex}"
    Registry.open(models).advance(None, "3f2a91c04d5e", "", "", "kserve", figures)
    assert run("--host", host, f"MODELS_URI={models}") == 0
    assert "In service: version 3f2a91c04d5e, accuracy 55.0% (50.0% to 60.0%, baseline" in capsys.readouterr().out


def test_without_the_store_the_end_says_where_the_figures_are(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--host", host) == 0
    assert "figures are in the outputs of evaluate and summarise" in capsys.readouterr().out


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(
    api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--host", host, "--dry-run", "EPOCHS=3") == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["epochs"] == 3
    assert api.requests == []


def test_make_hands_its_variables_on(host: str) -> None:
    """The command of manifests/README.md, and quotes that have to survive make and the shell."""
    words = ["make", "--silent", "submit", f"KFP_HOST={host}", "TAG=dev", "DRY_RUN=1", "PRESET=gke", "LIMIT=2000"]
    words += ["RECIPE=frozen", "TRAIN_CPU=2", "TRAIN_MEMORY=6Gi", 'GPU_NODE_SELECTOR={"pool": "gpu"}']
    words += ['DEPLOY_OPTIONS={"canary_percent": 10}', "EXPERIMENT=trial", "SERVICE_ACCOUNT=me"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    sent = json.loads(ended.stdout)
    assert (sent["experiment"], sent["service_account"]) == ("trial", "me")
    assert sent["parameters"] == {
        "pipeline_image": "bin-counter-pipeline:dev",
        "train_image": "bin-counter-train:dev",
        "limit": 2000,
        "recipe": "frozen",
        "train_cpu": "2",
        "train_memory": "6Gi",
        "gpu_node_selector": {"pool": "gpu"},
        "deploy_options": '{"canary_percent": 10}',
    }


def test_make_schedules(api: KfpApi, host: str) -> None:
    words = ["make", "--silent", "schedule", f"KFP_HOST={host}", "CRON=0 3 * * 1", "TAG=dev", "EPOCHS=2"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    [made] = api.recurring.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert made["runtime_config"]["parameters"]["epochs"] == 2
    assert made["runtime_config"]["parameters"]["only_news"] is True
    assert "snapshot" not in made["runtime_config"]["parameters"]


def test_a_kubeflow_with_several_users_takes_a_token_and_a_namespace(
    api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.multi_user, api.token = True, "secret"
    monkeypatch.setenv("KFP_TOKEN", "secret")
    assert run("--host", host, "--namespace", "team", "--no-follow") == 0
    assert [one["namespace"] for one in api.experiments.values()] == ["team"]


def test_a_second_run_of_a_user_finds_the_pipeline_of_that_namespace_again(api: KfpApi, host: str) -> None:
    api.multi_user, api.namespaces = True, ("team", "others")
    for namespace in ("team", "team", "others"):
        assert run("--host", host, "--namespace", namespace, "--no-follow") == 0
    assert sorted(one["namespace"] for one in api.pipelines.values()) == ["others", "team"]


def test_cookies_work_too(api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api.cookies = "session=abc"
    monkeypatch.setenv("KFP_COOKIES", "session=abc")
    assert run("--host", host, "--no-follow") == 0


def test_inside_the_cluster_the_projected_token_is_used_and_followed_as_it_is_renewed(
    api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def renew(*_: Any) -> None:
        api.token = "second"
        (tmp_path / "token").write_text("second\n")

    api.multi_user, api.token = True, "first"
    (tmp_path / "token").write_text("first\n")
    monkeypatch.setattr(connection, "PROJECTED_TOKEN", tmp_path / "token")
    monkeypatch.setattr(connection, "IN_CLUSTER_HOST", host)
    monkeypatch.setattr("pipeline.follow.time.sleep", renew)
    assert run("--host", "in-cluster", "--namespace", "team") == 0
    assert api.token == "second"


def test_inside_the_cluster_a_plain_kfp_needs_no_token(
    api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, "PROJECTED_TOKEN", tmp_path / "none")
    monkeypatch.setattr(connection, "IN_CLUSTER_HOST", host)
    assert run("--host", "in-cluster", "--no-follow") == 0


def test_a_schedule_replaces_the_one_before(api: KfpApi, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--host", host, "--cron", "0 3 * * 1", schedule=True) == 0
    assert run("--host", host, "--cron", "0 4 * * 1", "SEED=1", schedule=True) == 0
    (kept,) = api.recurring.values()
    assert kept["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * 1"
    assert kept["runtime_config"]["parameters"]["seed"] == 1
    assert f"/#/recurringrun/details/{kept['recurring_run_id']}" in capsys.readouterr().out


def test_a_schedule_takes_no_snapshot_because_it_looks_each_time(api: KfpApi, host: str) -> None:
    assert "a run on a schedule looks at what is there" in refused(
        "--host", host, "--cron", "0 3 * * 1", "SNAPSHOT=x", schedule=True
    )


def refused(*words: Any, schedule: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        run(*words, schedule=schedule)
    return str(caught.value)


def test_a_kfp_behind_a_private_authority_is_asked_once_that_is_named(
    api: KfpApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with serving(api, tmp_path / "server.pem") as host:
        with pytest.raises(UserError, match=r"certificate of KFP at .* is not trusted .*SSL_CERT_FILE"):
            run("--host", host)
        for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
            assert run("--host", host) == 0
            monkeypatch.delenv(variable)


def test_a_kfp_on_this_machine_is_asked_without_the_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    monkeypatch.setenv("no_proxy", "")
    assert run("--host", host) == 0


def test_an_unreachable_host_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        message = refused("--host", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot be reached" in message
    assert "port-forward" in message


def test_a_host_without_a_scheme_or_none_at_all_is_one_sentence() -> None:
    assert "should begin with http" in refused("--host", "localhost:8080")
    assert "No KFP was named" in refused()


@pytest.mark.parametrize("given", ["", "wrong"])
def test_an_unauthorised_host_says_which_variable_to_set(
    api: KfpApi, host: str, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    api.token = "secret"
    monkeypatch.setenv("KFP_TOKEN", given)
    assert "KFP_TOKEN" in refused("--host", host)


def test_a_login_page_says_which_variable_to_set(api: KfpApi, host: str) -> None:
    api.cookies = "session=abc"
    assert "KFP_COOKIES" in refused("--host", host)


def test_an_old_kfp_is_named_as_that(api: KfpApi, host: str) -> None:
    api.version = "v1beta1"
    assert "upgrade KFP to 2.17 or newer" in refused("--host", host)


def test_several_users_and_no_namespace_is_one_sentence(api: KfpApi, host: str) -> None:
    api.multi_user = True
    assert "NAMESPACE=" in refused("--host", host)


def test_a_namespace_without_users_is_one_sentence(host: str) -> None:
    assert "leave NAMESPACE out" in refused("--host", host, "--namespace", "team")


def test_a_namespace_that_is_not_there_is_one_sentence_and_starts_nothing(api: KfpApi, host: str) -> None:
    api.multi_user = True
    assert "check that the namespace exists" in refused("--host", host, "--namespace", "nowhere")
    assert api.runs == {}


def test_something_else_at_the_address_is_one_sentence(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEALTH", "/apis/v2beta1/pipelines/upload_version")
    with pytest.raises(UserError, match=r"check KFP_HOST|cannot be reached"):
        connect(Server(host, "", "", ""))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["SOURCE=generated"], "give a bucket such as s3://aft-vbi-pds"),
        (["GPU_NODE_SELECTOR={"], "is not JSON"),
        (["DEPLOY_OPTIONS=[]"], "it should be a JSON object"),
        (["EPOCH=3"], "EPOCHS"),
        (["EPOCHS=many"], "EPOCHS=many cannot be used"),
        (["BACKBONE=resnet19"], "There is no backbone 'resnet19'"),
        (["BACKBONE=vit_tiny_patch16_224"], "takes photos of 224 px only"),
        (["EPOCHS=3", 'OVERRIDES={"epochs": 4}'], "contradict each other"),
        (["WEIGHTS=weights.pth"], "is on this machine, where a cluster cannot read it"),
        (["FILE_LISTS=lists"], "is on this machine, where a cluster cannot read it"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_is_sent(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_parameters(words)


@pytest.mark.parametrize(("text", "cron"), [("0 3 * * 1", "0 0 3 * * 1"), ("0 0 3 ? * MON", "0 0 3 ? * MON")])
def test_schedules_have_five_or_six_fields(text: str, cron: str) -> None:
    assert read_cron(text) == cron


@pytest.mark.parametrize("text", ["", "daily", "0 3 * *", "0 3 * * 1; rm"])
def test_another_schedule_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write five fields"):
        read_cron(text)


def test_a_tag_or_a_registry_that_cannot_be_is_refused() -> None:
    assert "is not a tag" in refused("--host", "http://localhost:1", "--tag", "a b")
    assert "without '://'" in refused("--host", "http://localhost:1", "--registry", "https://registry")
