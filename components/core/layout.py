"""Names of buckets and keys: the one place that knows where an object lies."""

import re

MODEL_NAME = "bin-counter"

# A source bucket has the layout of the public Amazon Bin Image Dataset (bucket aft-vbi-pds).
PUBLIC_SOURCE_BUCKET = "aft-vbi-pds"
PUBLIC_SOURCE_REGION = "us-east-1"
METADATA_PREFIX = "metadata/"
IMAGES_PREFIX = "bin-images/"

# Our own buckets.
SOURCE_BUCKET = "bin-source"  # folders and drawn bins, where pods can read them
DATA_BUCKET = "bin-counter"  # shards, checkpoints, half-done work
MODELS_BUCKET = "models"
SHARDS_PREFIX = "shards/"
STATE_PREFIX = "state/"
INPUTS_PREFIX = "inputs/"
INDICES_PREFIX = "indices/"
PRUNED_KEY = "pruned.json"
RECOUNTS_PREFIX = "recounts/"  # what people counted; never removed
LATEST_KEY = f"{MODEL_NAME}/latest.json"
VERSIONS_PREFIX = f"{MODEL_NAME}/versions/"
DEPLOYMENTS_PREFIX = f"{MODEL_NAME}/deployments/"

# An id is a string: "1044" and "01044" are different bins. Digits only, so a key can never leave its folder.
IMAGE_ID = re.compile(r"[0-9]{1,12}")


def metadata_key(image_id: str) -> str:
    """Key of a bin's metadata in the source bucket."""
    return f"{METADATA_PREFIX}{image_id}.json"


def image_key(image_id: str) -> str:
    """Key of a bin's photo in the source bucket."""
    return f"{IMAGES_PREFIX}{image_id}.jpg"


def shard_key(digest: str) -> str:
    """Key of a tar shard in our data bucket; `digest` is the SHA-256 of its bytes."""
    return f"{SHARDS_PREFIX}{digest}.tar"


def index_key(digest: str) -> str:
    """Key of a copy of a shard index, written anew whenever a run uses the index; `digest` is the index's own."""
    return f"{INDICES_PREFIX}{digest}.json"


def state_prefix(step: str, fingerprint: str) -> str:
    """Prefix of what `step` keeps between attempts, under the fingerprint of its inputs."""
    return f"{STATE_PREFIX}{step}/{fingerprint}/"


def input_prefix(digest: str) -> str:
    """Prefix of files that a run was given (lists, weights), named after their content."""
    return f"{INPUTS_PREFIX}{digest}/"


def version_prefix(version: str) -> str:
    """Prefix of one immutable model version in the models bucket."""
    return f"{VERSIONS_PREFIX}{version}/"


def golden_prefix(version: str) -> str:
    """Prefix of the photos a version was asked before it was put into service, and of the answers it must give."""
    return f"{MODEL_NAME}/golden/{version}/"


def deployment_key(number: int) -> str:
    """Key of the record of one change of the version in service; the highest number is the one that counts."""
    return f"{DEPLOYMENTS_PREFIX}{number:08d}.json"
