"""Write an overlay of manifests/ as one file, with the images of a registry and a tag in it."""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from components.core.errors import UserError
from components.core.images import IMAGES, reference
from pipeline.compile import BUILD, Images, revision

MANIFESTS = Path(__file__).parent.parent / "manifests"
FILE = "manifests.yaml"
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
    parser.add_argument("--output", type=Path, default=BUILD, help="folder for the file (default: build)")


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say how to apply it."""
    text = build(arguments.overlay, Images(arguments.registry, arguments.tag or revision()))
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / FILE
    path.write_text(text)
    print(f"{path}: {sum(1 for _ in yaml.safe_load_all(text))} objects; kubectl apply --server-side -f {path}")
    return 0
