"""Names of the container images: the one place that knows them. A registry host is never part of a name."""

from pathlib import PurePath

PIPELINE_IMAGE = "bin-counter-pipeline"
TRAIN_IMAGE = "bin-counter-train"
SERVE_IMAGE = "bin-counter-serve"
SERVE_GPU_IMAGE = "bin-counter-serve-gpu"

IMAGES = (PIPELINE_IMAGE, TRAIN_IMAGE, SERVE_IMAGE, SERVE_GPU_IMAGE)

# What of components/ is not for the pipeline image, or not for it alone; the first that fits counts.
_HOLDERS = {
    "core/buckets.py": (PIPELINE_IMAGE,),
    "core": IMAGES,
    "serve": (SERVE_IMAGE, SERVE_GPU_IMAGE),
    "train_job/worker.py": (TRAIN_IMAGE,),
    "train_job": (PIPELINE_IMAGE, TRAIN_IMAGE),
    "train/network/timm_models.py": (),  # writes a table of the checkout
    "train": (TRAIN_IMAGE,),
}

# What a checkout uses that was given no tag. A cluster gets the code's git revision instead: an immutable tag,
# because KFP's cache and the kubelet both take an unchanged name for unchanged code.
DEFAULT_TAG = "dev"

# Every image runs as this user and group; docker/Dockerfile makes it.
USER_ID = 10001


def reference(image: str, registry: str = "", tag: str = DEFAULT_TAG) -> str:
    """Full reference of `image`, for example `registry.example/team/bin-counter-serve:3f2a91c`."""
    name = f"{registry.rstrip('/')}/{image}" if registry else image
    return f"{name}:{tag}"


def holds(image: str, path: PurePath) -> bool:
    """Whether `image` holds the file `path` of components/: no image has an entry point that it could not run."""
    if len(path.parts) == 1:
        return True
    return image in next((who for part, who in _HOLDERS.items() if path.is_relative_to(part)), (PIPELINE_IMAGE,))
