"""Put a model version into service: publish it, check it where it will run, and only then point to it."""

from dataclasses import dataclass
from pathlib import Path

from components.core.bundle import bundle_version
from components.core.errors import UserError
from components.core.registry import Deployment, Figures, Registry
from components.core.verdict import Verdict
from components.deploy.golden import choose_golden
from components.deploy.local import LocalTarget
from components.deploy.target import Candidate, Target


@dataclass(frozen=True)
class Inputs:
    """What earlier steps wrote."""

    bundle: Path
    predictions: Path
    shard_index: Path
    verdict: Path


def deploy(inputs: Inputs, models_uri: str, target: Target, run: str = "", source: str = "") -> Deployment:
    """Publish the bundle and put it into service on `target`, as the gate's verdict allows.

    `run` names all that the run was made from, `source` where its bins are; both are recorded. Running it again changes
    nothing. Raises UserError, with everything as it was, when the verdict is against it, when another model went into
    service since the gate compared, or when the new server is not ready or answers wrongly.
    """
    verdict = Verdict.read(inputs.verdict)
    version = bundle_version(inputs.bundle)
    if verdict.version != version:
        raise UserError(f"The verdict is about version {verdict.version}, not {version}; run gate on this model.")
    if not verdict.passed:
        raise UserError(f"Version {version} is not deployed: {verdict.reason}")
    registry = Registry.open(models_uri)
    before = registry.current()
    # What a run with the same inputs put there was compared with the same champion.
    if before and before.version not in (verdict.champion, version) and not (run and before.run == run):
        raise UserError(
            f"Version {before.version} went into service after the gate compared with "
            f"{verdict.champion or 'none'}; run again, so that version {version} is compared with it."
        )
    golden = choose_golden(inputs.predictions, inputs.shard_index)
    registry.publish(inputs.bundle, golden)
    candidate = Candidate(registry, version, golden)
    return put_into_service(
        candidate, target, before, verdict.champion, verdict.figures, run, source=source, forced=verdict.forced
    )


def roll_back(models_uri: str, target: Target, version: str) -> Deployment:
    """Put an earlier version back into service, checked like a new one. Raises UserError when that fails."""
    registry = Registry.open(models_uri)
    registry.info(version)
    before = registry.current()
    known = [record for record in registry.deployments() if record.version == version and record.figures]
    candidate = Candidate(registry, version, registry.golden(version))
    champion = before.version if before else ""
    if not known:
        return put_into_service(candidate, target, before, champion, None)
    earlier = known[-1]
    return put_into_service(
        candidate, target, before, champion, earlier.figures, source=earlier.source, forced=earlier.forced
    )


def put_into_service(
    candidate: Candidate,
    target: Target,
    before: Deployment | None,
    champion: str,
    figures: Figures | None,
    run: str = "",
    *,
    source: str = "",
    forced: bool | None = None,
) -> Deployment:
    """Roll a published version out and record it; `before` is the deployment it replaces."""
    with target.rollout(candidate) as where:
        if before and before.version == candidate.version:
            candidate.registry.write_latest()
            print(f"deploy: version {candidate.version} is in service already ({where})", flush=True)
            return before
        record = candidate.registry.advance(
            before, candidate.version, champion, run, target.name, figures, source, forced
        )
        print(f"deploy: version {candidate.version} is in service ({where})", flush=True)
        return record


def open_target(name: str, options: str) -> Target:
    """The target of that name; `options` is a JSON object. Raises UserError for an unknown name or option."""
    if name == "local":
        if options not in ("", "{}"):
            raise UserError("The target local takes no options; leave deploy_options out.")
        return LocalTarget()
    if name == "kserve":
        # Imported late: the local target needs no Kubernetes client, which takes a second to import.
        from components.core.cluster import Cluster
        from components.deploy.kserve import KServeTarget
        from components.deploy.options import KServeOptions

        chosen = KServeOptions.parse(options)
        return KServeTarget(chosen, Cluster.connect("use the target local"))
    raise UserError(f"There is no target '{name}'; choose local or kserve.")
