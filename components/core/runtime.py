"""Running a bundle's graph: OpenVINO on a CPU, ONNX Runtime on a CUDA device. The only module that runs a model."""

import itertools
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.core.bundle import OUT_OF_RANGE_OUTPUT, OUTSIDE_OUTPUT, PIXELS_INPUT, SCORES_OUTPUT, Bundle
from components.core.errors import UserError

RUNTIMES = ("auto", "openvino", "onnxruntime")
_OPENVINO_TYPES = {"f32": "f32", "bf16": "bf16", "int8": "f32"}  # int8 is in the graph itself
_CUDA = "CUDAExecutionProvider"
_DRIVER = Path("/dev/nvidiactl")
_COPIES = 4  # graphs of one runtime at most, for each has its weights in memory
_BATCH = 32  # images in one call at most, so that memory does not grow with the caller's array

Array = NDArray[Any]


@dataclass(frozen=True)
class Prediction:
    """What the model says of N photos.

    `scores` float32 N×max_count: calibrated probabilities of the counts 1…max_count, given that it is one of them.
    `out_of_range` float32 N: probability that the bin holds 0 or more than max_count items; None when the model
    knows no such bins. `empty_and_more` float32 N×2: its two parts; None also where the graph gives only their sum.
    """

    scores: NDArray[np.float32]
    out_of_range: NDArray[np.float32] | None
    empty_and_more: NDArray[np.float32] | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """Most probable count of each photo, N integers from 1."""
        return self.scores.argmax(axis=1) + 1

    @property
    def classes(self) -> NDArray[np.float64] | None:
        """Probabilities of 0, 1…max_count and more, float64 N×(max_count + 2); None where the graph gives not all."""
        return None if self.empty_and_more is None else all_classes(self.scores, self.empty_and_more)

    @property
    def expected_counts(self) -> NDArray[np.float64]:
        """Mean of the count under the scores, N floats in 1…max_count."""
        return self.scores.astype(np.float64) @ np.arange(1, self.scores.shape[1] + 1)


def all_classes(scores: Array, empty_and_more: Array) -> NDArray[np.float64]:
    """Probabilities of 0, 1…K and more, N×(K+2): of N×K scores, given 1…K, and N×2 of what lies outside."""
    empty, more = empty_and_more.astype(np.float64).T[:, :, None]
    return np.hstack([empty, (1 - empty - more) * scores, more])


class OnnxFunction(Protocol):
    """A graph that was opened: pixels uint8 N×S×S×3 in, one array per wanted output out. Safe to call from threads.

    `device` is where it runs: CPU or CUDA.
    """

    device: str

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Array, ...]:
        """Run the graph."""


class Runtime:
    """A bundle ready to answer. Safe to call from several threads at once."""

    def __init__(self, bundle: Bundle, function: OnnxFunction, name: str, precision: str) -> None:
        self.bundle = bundle
        self.name = name
        self.precision = precision
        self.device = function.device
        self._function = function

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Count the items in N photos: uint8 N×S×S×3 of the bundle's image size."""
        size = self.bundle.info.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; the model takes uint8 N×{size}×{size}×3")
        if len(pixels) == 0:
            empty = np.empty((0, self.bundle.info.max_count), np.float32)
            return Prediction(empty, empty[:, 0].copy() if self.bundle.info.has_out_of_range else None)
        parts = [self._function(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Prediction(*columns) if self.bundle.info.has_out_of_range else Prediction(columns[0], None)


def open_runtime(
    bundle: Bundle, runtime: str = "auto", precision: str | None = None, threads: int | None = None, streams: int = 1
) -> Runtime:
    """Open a bundle's graph.

    `runtime`: openvino, onnxruntime, or auto: ONNX Runtime where one for CUDA is installed, whatever the bundle asks
    for, else the bundle's choice, and OpenVINO where that is auto too. `precision`: f32, bf16 or int8, by default the
    bundle's. `threads`: CPU threads in all, by default every core. `streams`: how many calls run at the same time,
    sharing the threads. Raises UserError for a runtime that is not installed, a graph that cannot be opened, and an
    ONNX Runtime for CUDA that would run elsewhere.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"There is no runtime '{runtime}'; take one of {', '.join(RUNTIMES)}.")
    name = runtime
    if runtime == "auto":
        bundles = "openvino" if bundle.info.runtime == "auto" else bundle.info.runtime
        name = "onnxruntime" if _is_for_cuda() else bundles
        if name != bundles and precision is None and bundle.info.precision == "bf16":
            precision = "f32"  # the same graph; bf16 is OpenVINO's way to compute it
    precision = precision or bundle.info.precision
    if precision not in _OPENVINO_TYPES:
        raise UserError(f"There is no precision '{precision}'; take one of {', '.join(_OPENVINO_TYPES)}.")
    path = bundle.onnx_for(precision)
    if not path.is_file():
        raise UserError(f"The model in '{bundle.folder}' has no {precision} graph; take f32 or train with {precision}.")
    optional = {OUT_OF_RANGE_OUTPUT: bundle.info.has_out_of_range, OUTSIDE_OUTPUT: bundle.info.has_empty_and_more}
    outputs = (SCORES_OUTPUT, *(output for output, given in optional.items() if given))
    opened = open_onnx(path, precision, threads, outputs, streams=streams, runtime=name)
    return Runtime(bundle, opened, name, precision)


def open_onnx(
    path: Path,
    precision: str = "f32",
    threads: int | None = None,
    outputs: Sequence[str] = (SCORES_OUTPUT,),
    *,
    streams: int = 1,
    runtime: str = "openvino",
) -> OnnxFunction:
    """Open any graph that takes `pixels` uint8 N×S×S×3; the result gives `outputs` in that order. Raises UserError."""
    try:
        if runtime == "onnxruntime":
            return _OnnxRuntimeFunction(path, precision, threads, outputs)
        return _OpenVinoFunction(path, precision, threads, outputs, streams)
    except ImportError as error:
        raise UserError(f"The runtime '{runtime}' is not installed here ({error}); take another one.") from error
    except UserError:
        raise
    except Exception as error:  # each library has its own errors for a file that is no graph
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise UserError(f"The graph in {path} cannot be opened by {runtime} ({reason.strip()}).") from error


def switch_telemetry_off() -> None:
    """Keep OpenVINO and NNCF from reporting to their makers' analytics; call it before either is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class _OpenVinoFunction:
    device = "CPU"

    def __init__(self, path: Path, precision: str, threads: int | None, outputs: Sequence[str], streams: int) -> None:
        switch_telemetry_off()
        import openvino

        # Fills a table inside OpenVINO; two threads that both come to it first wait for each other for ever.
        openvino.Type.u8.to_dtype()
        core = openvino.Core()
        # With one stream of one thread OpenVINO computes in the thread that calls. Else it hands over to threads of its
        # own, which wait by yielding and so fall behind whatever else runs on the machine: a few streams of one thread
        # are therefore as many graphs.
        copies = streams if streams == threads and streams <= _COPIES else 1
        options: dict[str, Any] = {
            # Where a CPU has bf16 units OpenVINO would use them unasked, and scores would differ between machines.
            "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[precision],
            "NUM_STREAMS": str(streams // copies),
            # OpenVINO would pin its threads to the first cores, and two processes on one machine to the same ones.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads // copies
        model = core.read_model(str(path))
        self._compiled = [core.compile_model(model, "CPU", options) for _ in range(copies)]
        self._outputs = [tuple(compiled.output(name) for name in outputs) for compiled in self._compiled]
        self._local = threading.local()  # an infer request serves one thread at a time
        self._callers = itertools.count()

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Array, ...]:
        request = getattr(self._local, "request", None)
        if request is None:
            copy = next(self._callers) % len(self._compiled)
            request = self._local.request = self._compiled[copy].create_infer_request()
            self._local.outputs = self._outputs[copy]
        results = request.infer({PIXELS_INPUT: np.ascontiguousarray(pixels)}, share_inputs=True)
        return tuple(results[output] for output in self._local.outputs)


class _OnnxRuntimeFunction:
    def __init__(self, path: Path, precision: str, threads: int | None, outputs: Sequence[str]) -> None:
        import onnxruntime

        if precision == "bf16":
            raise UserError("ONNX Runtime runs f32 and int8 graphs; bf16 needs the runtime openvino.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        providers: list[Any] = ["CPUExecutionProvider"]
        if _is_for_cuda():
            onnxruntime.preload_dlls()
            # TF32 would make scores differ from those of a CPU in the third digit.
            providers.insert(0, (_CUDA, {"use_tf32": "0"}))
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.device = "CUDA" if _CUDA in self._session.get_providers() else "CPU"
        if self.device == "CPU" and _is_for_cuda():
            # ONNX Runtime itself would go on, at a fraction of the speed.
            raise UserError(
                "ONNX Runtime for CUDA is installed, but "
                + ("CUDA cannot be used" if _DRIVER.exists() else "there is no NVIDIA device")
                + " here; give it a GPU whose driver fits its CUDA libraries, or take the runtime openvino."
            )
        self._outputs = list(outputs)

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Array, ...]:
        return tuple(self._session.run(self._outputs, {PIXELS_INPUT: np.ascontiguousarray(pixels)}))


def _is_for_cuda() -> bool:
    """Whether the ONNX Runtime that is installed was built for CUDA: nobody installs that one to run on a CPU."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return _CUDA in onnxruntime.get_available_providers()
