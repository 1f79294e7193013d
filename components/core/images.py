"""Names of the container images: the one place that knows them. A registry host is never part of a name."""

PIPELINE_IMAGE = "bin-counter-pipeline"
TRAIN_IMAGE = "bin-counter-train"
SERVE_IMAGE = "bin-counter-serve"
SERVE_GPU_IMAGE = "bin-counter-serve-gpu"

IMAGES = (PIPELINE_IMAGE, TRAIN_IMAGE, SERVE_IMAGE, SERVE_GPU_IMAGE)

# What a checkout uses that was given no tag. A cluster gets the code's git revision instead: an immutable tag,
# because KFP's cache and the kubelet both take an unchanged name for unchanged code.
DEFAULT_TAG = "dev"

# Every image runs as this user and group; docker/Dockerfile makes it.
USER_ID = 10001


def reference(image: str, registry: str = "", tag: str = DEFAULT_TAG) -> str:
    """Full reference of `image`, for example `registry.example/team/bin-counter-serve:3f2a91c`."""
    name = f"{registry.rstrip('/')}/{image}" if registry else image
    return f"{name}:{tag}"
