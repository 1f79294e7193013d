"""Compile the DAG for a cluster: KFP's IR for upload, and Kubernetes objects for `kubectl apply`."""

import argparse
import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import UserError
from components.core.images import PIPELINE_IMAGE, TRAIN_IMAGE, reference
from pipeline.options import add_options, given_options
from pipeline.parameters import Compilation
from pipeline.resources import Placement, parse_requests

BUILD = Path("build")
IR_FILE = "pipeline.yaml"
MANIFEST_FILE = "pipeline-k8s.yaml"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Images:
    """Where the steps' images are: a registry with its path, "" for none, and a tag."""

    registry: str
    tag: str

    def parameters(self) -> dict[str, str]:
        """As parameters of the pipeline. Raises UserError for a tag that no registry takes."""
        if not _TAG.fullmatch(self.tag):
            raise UserError(f"TAG={self.tag} is not a tag; use letters, digits, '.', '_' and '-'.")
        if "://" in self.registry:
            raise UserError(f"REGISTRY={self.registry} should be a host and a path, without '://'.")
        return {
            "pipeline_image": reference(PIPELINE_IMAGE, self.registry, self.tag),
            "train_image": reference(TRAIN_IMAGE, self.registry, self.tag),
        }


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline: its file, and the name that this content always has."""

    path: Path
    version: str


def compile_pipeline(placement: Placement, folder: Path, images: Images | None = None) -> Compiled:
    """Write the IR (two YAML documents: pipeline and platform spec) for a kind of cluster into `folder`.

    With `images` their references become the defaults of the image parameters.
    """
    from kfp import compiler

    from pipeline.dag import build_pipeline

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / IR_FILE
    defaults: dict[str, Any] | None = dict(images.parameters()) if images else None
    compiler.Compiler().compile(build_pipeline(placement), str(path), pipeline_parameters=defaults)
    return Compiled(path, f"{revision()}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}")


def compile_manifest(placement: Placement, folder: Path, images: Images, version: str, namespace: str) -> Path:
    """Write the same as Pipeline and PipelineVersion objects."""
    from kfp import compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    from pipeline.dag import PIPELINE_NAME, build_pipeline

    path = folder / MANIFEST_FILE
    compiler.Compiler().compile(
        build_pipeline(placement),
        str(path),
        pipeline_parameters=dict(images.parameters()),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=KubernetesManifestOptions(
            pipeline_name=PIPELINE_NAME,
            pipeline_version_name=f"{PIPELINE_NAME}-{version.lower()}",
            # What `make submit` looks for: a version that was applied is used, not uploaded again.
            pipeline_version_display_name=version,
            namespace=namespace,
            include_pipeline_manifest=True,
        ),
    )
    return path


def golden() -> str:
    """The IR as a test compares it: for no cluster in particular, without the version of KFP's SDK."""
    with tempfile.TemporaryDirectory() as folder:
        text = compile_pipeline(Placement(), Path(folder)).path.read_text()
    return re.sub(r"(?m)^sdkVersion: .*$", "sdkVersion: any", text)


def revision() -> str:
    """The git revision of this code, 12 digits, with `-changed` when files differ from it; `unknown` outside git."""
    try:
        ended = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=-changed"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ended.stdout.strip()


def add_placement_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that decide how the pipeline is compiled."""
    add_options(parser, Compilation)


def placement_from(arguments: argparse.Namespace) -> Placement:
    """Read the arguments. Raises UserError for a combination that cannot be."""
    given = given_options(arguments, Compilation)
    return Placement(
        preset_name=given.preset,
        train_on=given.train_on,
        queue=given.queue,
        nodes=given.nodes,
        retries=not given.no_retries,
        shm_size=given.shm_size,
        train_timeout=given.train_timeout,
        requests=parse_requests(given.step_requests),
    )


def images_from(arguments: argparse.Namespace) -> Images:
    """Read the arguments; without a tag the git revision."""
    given = given_options(arguments, Compilation)
    return Images(given.registry, given.tag or revision())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m pipeline compile`."""
    add_placement_arguments(parser)
    parser.add_argument("--namespace", default="kubeflow", help="namespace of the Kubernetes objects")
    parser.add_argument("--output", type=Path, default=BUILD, help="folder for the two files (default: build)")
    parser.add_argument("--golden", type=Path, help="write only what the test of the DAG expects, to this file")


def run(arguments: argparse.Namespace) -> int:
    """Write both files and say where they are. Raises UserError for a bad option."""
    placement, images = placement_from(arguments), images_from(arguments)
    if arguments.golden:
        arguments.golden.write_text(golden())
        return 0
    compiled = compile_pipeline(placement, arguments.output, images)
    manifest = compile_manifest(placement, arguments.output, images, compiled.version, arguments.namespace)
    print(f"{compiled.path}   version {compiled.version}, for upload")
    print(f"{manifest}   for kubectl apply -f")
    return 0
