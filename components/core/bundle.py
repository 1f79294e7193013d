"""The bundle: one folder that holds a trained model and says where it came from."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from components.core.drift import DriftBaseline
from components.core.errors import UserError
from components.core.files import folder_whole
from components.core.stored import Stored

MODEL_FILE = "model.onnx"
INT8_FILE = "model-int8.onnx"
WEIGHTS_FILE = "weights.safetensors"
INFO_FILE = "model.json"

PIXELS_INPUT = "pixels"
SCORES_OUTPUT = "scores"
OUT_OF_RANGE_OUTPUT = "out_of_range"
OUTSIDE_OUTPUT = "empty_and_more"  # the two parts of out_of_range apart, N×2

Precision = Literal["f32", "bf16", "int8"]
RuntimeName = Literal["auto", "openvino", "onnxruntime"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleInfo(Stored):
    """model.json: everything needed to run the model and to know where it came from.

    `checksums` are filled in by `write_bundle`: SHA-256 of every other file in the folder.
    """

    what: ClassVar[str] = "the description of a model"
    remedy: ClassVar[str] = "train again or fetch the model again"

    backbone: str
    image_size: int = Field(ge=16, le=1024)
    max_count: int = Field(ge=1, le=100)
    has_out_of_range: bool
    has_empty_and_more: bool = False  # whether the graph gives these two apart as well
    runtime: RuntimeName = "auto"
    precision: Precision = "f32"
    temperature: float = Field(gt=0)
    class_biases: tuple[float, ...] = ()  # added to the logits of all classes after the temperature; in the graph
    recipe: str
    recipe_fields: dict[str, bool | int | float | str] = Field(default={})
    initial_weights: str = ""  # where the backbone's first weights came from
    seed: int = 0
    training_images: int = 0
    data_fingerprint: str  # digest of the shard index
    training_ids_digest: str  # SHA-256 over the sorted ids the weights were fitted on
    metrics: dict[str, float] = Field(default={})  # figures on the validation subset
    validation_counts: tuple[int, ...] = ()  # no longer written: of bins in range alone, which no camera sends alone
    drift_baseline: DriftBaseline | None = None
    versions: dict[str, str] = Field(default={})
    checksums: dict[str, Digest] = Field(default={})

    @property
    def labels(self) -> tuple[int, ...]:
        """The counts that the columns of `scores` stand for."""
        return tuple(range(1, self.max_count + 1))


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were checked against their checksums."""

    info: BundleInfo
    folder: Path

    @property
    def onnx_path(self) -> Path:
        """The graph to serve: pixels uint8 N×S×S×3 in, `scores` (and `out_of_range`) out."""
        return self.onnx_for(self.info.precision)

    def onnx_for(self, precision: str) -> Path:
        """The graph of a precision: int8 has its own, f32 and bf16 share the one in f32."""
        return self.folder / (INT8_FILE if precision == "int8" else MODEL_FILE)

    @property
    def weights_path(self) -> Path:
        """The weights in f32, for training on."""
        return self.folder / WEIGHTS_FILE


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(folder: Path, info: BundleInfo, files: Path) -> Bundle:
    """Put the files lying in `files` and their model.json into `folder`: all of it, or nothing.

    `files` must hold model.onnx and weights.safetensors, and model-int8.onnx when `info` serves int8.
    The folder is built beside its place and renamed into it; what stood there before is replaced.
    """
    with folder_whole(folder) as staged:
        for path in files.iterdir():
            shutil.copyfile(path, staged / path.name)  # the content only: temporary files are closed to other users
        checksums = {path.name: file_digest(path) for path in sorted(staged.iterdir())}
        complete = info.model_copy(update={"checksums": checksums})
        complete.write(staged / INFO_FILE)
        read_bundle(staged)
    return Bundle(complete, folder)


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check every file against its checksum. Raises UserError when it is missing or damaged."""
    folder = Path(folder)
    path = folder / INFO_FILE
    if not path.is_file():
        raise UserError(f"There is no model in '{folder}' ({INFO_FILE} is missing); give the folder that train wrote.")
    info = BundleInfo.read(path)
    needed = {MODEL_FILE, WEIGHTS_FILE} | ({INT8_FILE} if info.precision == "int8" else set())
    for name in sorted(needed | set(info.checksums)):
        if Path(name).name != name or name not in info.checksums:
            raise UserError(f"{path} has no checksum for {name}; the model is not whole, train or fetch it again.")
        if not (folder / name).is_file():
            raise UserError(f"The model in '{folder}' lacks {name}; train or fetch it again.")
        if file_digest(folder / name) != info.checksums[name]:
            raise UserError(f"{folder / name} is damaged (its checksum differs); train or fetch the model again.")
    return Bundle(info, folder)


def bundle_version(folder: str | Path) -> str:
    """Twelve hex digits that name the bundle's content.

    model.json holds the checksums of all other files, so its own digest covers the whole folder.
    Raises UserError when the folder is damaged.
    """
    bundle = read_bundle(folder)
    return file_digest(bundle.folder / INFO_FILE)[:12]
