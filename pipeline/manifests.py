"""Write an overlay of manifests/ with the images of a registry and a tag in it, and if wanted a model that serves."""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.core.errors import UserError
from components.core.images import IMAGES, reference
from components.core.inference_service import RUNTIME_KIND, Object, predictor, runtime_copy, served
from components.core.layout import MODEL_NAME, MODELS_BUCKET
from components.core.registry import VERSION
from pipeline.compile import BUILD, Images, revision

MANIFESTS = Path(__file__).parent.parent / "manifests"
FILE = "manifests.yaml"
SERVICE_FILE = "inference-service.yaml"
SERVICE = "inference-service"  # folder in manifests/ that says how much of the model runs; -<overlay> where one differs
MIRROR = "mirror.example"


def build(overlay: str, images: Images) -> str:
    """The overlay's objects as YAML; every image gets the registry, ours also the tag.

    Raises UserError for an unknown overlay, and with kubectl's words when it does not build.
    """
    images.parameters()
    known = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
    if overlay not in known:
        raise UserError(f"There is no overlay {overlay}; choose one of {', '.join(known)}.")
    base = _kustomize(MANIFESTS / "overlays" / overlay)
    text = base.replace(f"image: {MIRROR}/", f"image: {images.registry.rstrip('/')}/" if images.registry else "image: ")
    for image in IMAGES:
        for before in (reference(image), reference(image, images.registry)):
            text = text.replace(f"image: {before}\n", f"image: {reference(image, images.registry, images.tag)}\n")
    return text


@dataclass(frozen=True)
class Published:
    """A published version, where KServe finds it, and the ServingRuntime that is to serve it."""

    version: str
    models_uri: str = f"s3://{MODELS_BUCKET}"
    storage_uri: str = ""  # instead of the models bucket, with {version}
    runtime: str = MODEL_NAME


def build_service(overlay: str, manifests: str, published: Published) -> str:
    """An InferenceService that serves a version, and the copy of the ServingRuntime that it names, as YAML.

    `manifests` is what `build` made of the overlay. The file is to be kept in a repository: it needs no run, and what
    it names never changes. Raises UserError for a version that cannot be one, and for an unknown ServingRuntime.
    """
    if not VERSION.fullmatch(published.version):
        raise UserError(f"'{published.version}' is not a version; it is twelve hex digits, see `make models`.")
    if published.storage_uri and "{version}" not in published.storage_uri:
        raise UserError(f"STORAGE_URI={published.storage_uri} names no version; write {{version}} where its name goes.")
    objects = {(body["kind"], body["metadata"]["name"]): body for body in yaml.safe_load_all(manifests)}
    runtime = objects.get((RUNTIME_KIND, published.runtime))
    if runtime is None:
        there = ", ".join(name for kind, name in objects if kind == RUNTIME_KIND)
        raise UserError(f"There is no {RUNTIME_KIND} {published.runtime} in the overlay {overlay}; there is {there}.")
    own = MANIFESTS / f"{SERVICE}-{overlay}"
    [service] = yaml.safe_load_all(_kustomize(own if own.is_dir() else MANIFESTS / SERVICE))
    copy = runtime_copy(runtime, service["metadata"]["name"])
    model = served(published.version, published.models_uri, published.storage_uri).on(copy["metadata"]["name"])
    service["spec"]["predictor"] = _merged(service["spec"]["predictor"], predictor(model))
    return yaml.safe_dump_all([copy, service], sort_keys=False, allow_unicode=True)


def _merged(first: Object, second: Object) -> Object:
    """Both objects' fields; where both have one, those of the second."""
    both = first | second
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict):
            both[key] = _merged(first[key], second[key])
    return both


def _kustomize(folder: Path) -> str:
    kubectl = Path(sys.executable).with_name("kubectl")
    ended = subprocess.run(
        [str(kubectl) if kubectl.exists() else "kubectl", "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise UserError(f"{folder} does not build: {ended.stderr.strip().rstrip('.')}.")
    return ended.stdout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m pipeline manifests`."""
    parser.add_argument("--overlay", default="local", help="folder in manifests/overlays (default: local)")
    parser.add_argument("--registry", default="", help="registry and path that the images were pushed to")
    parser.add_argument("--tag", default="", help="tag of the images (default: the git revision)")
    parser.add_argument(
        "--version", default="", help="a published version: an InferenceService that serves it is written"
    )
    parser.add_argument("--models-uri", default=f"s3://{MODELS_BUCKET}", help="bucket of the model versions")
    parser.add_argument("--storage-uri", default="", help="where KServe finds the version instead, with {version}")
    parser.add_argument("--runtime", default=MODEL_NAME, help="ServingRuntime that serves it (default: bin-counter)")
    parser.add_argument("--output", type=Path, default=BUILD, help="folder for the file (default: build)")


def run(arguments: argparse.Namespace) -> int:
    """Write the files and say how to apply them."""
    text = build(arguments.overlay, Images(arguments.registry, arguments.tag or revision()))
    files = {FILE: text}
    if arguments.version:
        published = Published(arguments.version, arguments.models_uri, arguments.storage_uri, arguments.runtime)
        files[SERVICE_FILE] = build_service(arguments.overlay, text, published)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = arguments.output / name
        path.write_text(content)
        count = sum(1 for _ in yaml.safe_load_all(content))
        print(f"{path}: {count} objects; kubectl apply --server-side -f {path}")
    return 0
