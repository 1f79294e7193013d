"""Submit a run to KFP and follow it, or put one on a schedule."""

import argparse
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import UserError
from pipeline.compile import Compiled, add_placement_arguments, compile_pipeline, images_from, placement_from
from pipeline.connection import Server, connect, explained
from pipeline.follow import Patience, follow
from pipeline.inputs import check_sent
from pipeline.options import add_options, given_options
from pipeline.parameters import Sending, parse_cluster_parameters

if TYPE_CHECKING:
    import kfp

PIPELINE = "bin-counter"


@dataclass(frozen=True)
class Submission:
    """What is sent: everything that decides a run."""

    host: str
    namespace: str
    experiment: str
    service_account: str
    pipeline: str
    version: str
    parameters: dict[str, Any]
    cron: str = ""

    def show(self) -> None:
        """Print it as JSON."""
        print(json.dumps(asdict(self), indent=2))


def read_parameters(assignments: list[str]) -> dict[str, Any]:
    """Pipeline parameters from `NAME=value` words; those not given keep the pipeline's defaults.

    Raises UserError for the first bad one, and for a recipe that cannot be used.
    """
    given = parse_cluster_parameters(assignments)
    check_sent(given)
    return given


def read_cron(text: str) -> str:
    """A schedule in KFP's form (six fields, seconds first) from five or six. Raises UserError for anything else."""
    words = text.split()
    if len(words) == 5:
        words = ["0", *words]
    if len(words) != 6 or not all(re.fullmatch(r"[0-9A-Za-z*/,?#-]+", word) for word in words):
        raise UserError(f"CRON={text} is not a schedule; write five fields such as '0 3 * * 1', Mondays at three.")
    return " ".join(words)


def ensure_version(client: "kfp.Client", server: Server, compiled: Compiled) -> tuple[str, str]:
    """Ids of the pipeline and of the version with this content; uploads what is not there yet."""
    with explained("the upload of the pipeline", server):
        # With several users a pipeline belongs to a namespace, and is found only there.
        found = client.list_pipelines(namespace=server.namespace or None, filter=_named(PIPELINE)).pipelines or []
        if found:
            pipeline_id = found[0].pipeline_id
        else:
            # The first version of a pipeline is made with it, and named after it.
            options = {"name": PIPELINE, "description": "counts the items in a bin from its photo"}
            if server.namespace:
                options["namespace"] = server.namespace
            pipeline_id = client._upload_api.upload_pipeline(str(compiled.path), **options).pipeline_id
        version_id = _find_version(client, pipeline_id, compiled.version) or _upload_version(
            client, pipeline_id, compiled
        )
    return pipeline_id, version_id


def _find_version(client: "kfp.Client", pipeline_id: str, version: str) -> str:
    """Id of the version, whoever made it; "" when it is not there."""
    # Manifests of earlier revisions gave the second as the display name.
    for name in (version, f"{PIPELINE}-{version.lower()}"):
        found = client.list_pipeline_versions(pipeline_id, filter=_named(name)).pipeline_versions
        if found:
            return str(found[0].pipeline_version_id)
    return ""


def _upload_version(client: "kfp.Client", pipeline_id: str, compiled: Compiled) -> str:
    from kfp_server_api import ApiException

    try:
        made = client._upload_api.upload_pipeline_version(
            str(compiled.path), name=compiled.version, pipelineid=pipeline_id
        )
    except ApiException as error:
        # Somebody else has uploaded the same meanwhile.
        there = _find_version(client, pipeline_id, compiled.version) if error.status == HTTPStatus.CONFLICT else ""
        if not there:
            raise
        return there
    return str(made.pipeline_version_id)


def _named(name: str) -> str:
    """KFP's filter for one name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def ensure_experiment(client: "kfp.Client", server: Server, name: str) -> str:
    """Id of the experiment, which is made where it is missing."""
    with explained(f"the experiment {name}", server):
        return str(client.create_experiment(name, namespace=server.namespace or None).experiment_id)


def start(client: "kfp.Client", server: Server, submission: Submission, compiled: Compiled) -> str:
    """Upload, start a run, and return its id."""
    pipeline_id, version_id = ensure_version(client, server, compiled)
    experiment_id = ensure_experiment(client, server, submission.experiment)
    with explained("to start the run", server):
        answer = client.run_pipeline(
            experiment_id,
            f"{PIPELINE} {compiled.version}",
            params=submission.parameters,
            pipeline_id=pipeline_id,
            version_id=version_id,
            service_account=submission.service_account,
        )
    return str(answer.run_id)


def put_on_schedule(client: "kfp.Client", server: Server, submission: Submission, compiled: Compiled) -> str:
    """Make the recurring run and then remove those it replaces; returns its id."""
    pipeline_id, version_id = ensure_version(client, server, compiled)
    experiment_id = ensure_experiment(client, server, submission.experiment)
    with explained("the schedule", server):
        listed = client.list_recurring_runs(experiment_id=experiment_id, page_size=100).recurring_runs or []
        older = [run.recurring_run_id for run in listed if run.display_name == PIPELINE]
        made = client.create_recurring_run(
            experiment_id,
            PIPELINE,
            cron_expression=submission.cron,
            max_concurrency=1,
            no_catchup=True,
            params=submission.parameters,
            pipeline_id=pipeline_id,
            version_id=version_id,
            service_account=submission.service_account,
        )
        for identifier in older:
            client.delete_recurring_run(identifier)
    return str(made.recurring_run_id)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m pipeline submit`."""
    parser.add_argument("assignments", nargs="*", metavar="NAME=value", help="a parameter of the pipeline")
    add_options(parser, Sending, without=["cron"])
    add_placement_arguments(parser)


def add_schedule_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m pipeline schedule`."""
    parser.add_argument("assignments", nargs="*", metavar="NAME=value", help="a parameter of the pipeline")
    add_options(parser, Sending)
    add_placement_arguments(parser)
    parser.set_defaults(scheduled=True)


def run(arguments: argparse.Namespace) -> int:
    """Submit and follow, or schedule; returns 1 for a run that did not succeed. Raises UserError for bad input."""
    parameters = images_from(arguments).parameters() | read_parameters(arguments.assignments)
    placement, sending = placement_from(arguments), given_options(arguments, Sending)
    cron = read_cron(sending.cron) if hasattr(arguments, "scheduled") else ""
    if cron:
        if "snapshot" in parameters:
            raise UserError(
                "SNAPSHOT names one state of the source, and a run on a schedule looks at what is there; leave it out."
            )
        parameters["only_news"] = True
    server = Server.from_environment(sending.kfp_host, sending.namespace)
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_pipeline(placement, Path(folder))
        submission = Submission(
            host=server.host,
            namespace=server.namespace,
            experiment=sending.experiment,
            service_account=sending.service_account,
            pipeline=PIPELINE,
            version=compiled.version,
            parameters=parameters,
            cron=cron,
        )
        if sending.dry_run:
            submission.show()
            return 0
        client = connect(server)
        if cron:
            identifier = put_on_schedule(client, server, submission, compiled)
            print(f"Scheduled '{cron}' (UTC): {server.host}/#/recurringrun/details/{identifier}")
            return 0
        identifier = start(client, server, submission, compiled)
    if sending.no_follow:
        return 0
    return follow(server, identifier, Patience(start=sending.start_timeout))
