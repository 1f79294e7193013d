"""Running a bundle: right shapes, stated precision, safe from threads, clear errors."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.core.bundle import Bundle
from components.core.errors import UserError
from components.core.runtime import Prediction, _OpenVinoFunction, open_onnx, open_runtime
from tests.small_model import IMAGE_SIZE, STEP, write_small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_small_bundle(tmp_path_factory.mktemp("runtime") / "model")


def levels(*counts: float) -> np.ndarray:
    """Photos as bright as these counts."""
    return np.stack([np.full((IMAGE_SIZE, IMAGE_SIZE, 3), round(count * STEP), np.uint8) for count in counts])


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_every_runtime_gives_the_same_counts_and_scores(bundle: Bundle, runtime: str) -> None:
    prediction = open_runtime(bundle, runtime, threads=1).predict(levels(1, 2, 3, 4, 5))
    assert prediction.counts.tolist() == [1, 2, 3, 4, 5]
    assert prediction.scores.dtype == np.float32
    assert prediction.scores.shape == (5, 5)
    reference = open_runtime(bundle, "openvino", threads=1).predict(levels(1, 2, 3, 4, 5))
    assert np.abs(prediction.scores - reference.scores).max() < 1e-5
    assert prediction.out_of_range is not None
    assert reference.out_of_range is not None
    assert np.abs(prediction.out_of_range - reference.out_of_range).max() < 1e-5


def test_many_photos_at_once_are_the_same_as_one_by_one(bundle: Bundle) -> None:
    pixels = levels(*np.linspace(0.5, 6, 77))
    runtime = open_runtime(bundle, threads=1)
    together = runtime.predict(pixels)
    single = [runtime.predict(pixels[place : place + 1]).scores[0] for place in range(len(pixels))]
    assert np.abs(together.scores - np.stack(single)).max() < 1e-6
    assert runtime.predict(pixels[:0]).scores.shape == (0, 5)


def test_threads_may_share_a_runtime(bundle: Bundle) -> None:
    runtime = open_runtime(bundle, threads=2, streams=2)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda count: runtime.predict(levels(count)).counts[0], [1, 2, 3, 4, 5] * 40))
    assert counts == [1, 2, 3, 4, 5] * 40


def test_expected_count_is_the_mean_under_the_scores() -> None:
    prediction = Prediction(np.array([[0.5, 0, 0.5], [0, 1, 0]], np.float32), None)
    assert prediction.expected_counts.tolist() == [2.0, 2.0]
    assert prediction.counts.tolist() == [1, 2]


def test_a_bundle_without_out_of_range_says_none(tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "model", out_of_range=False)
    assert open_runtime(bundle).predict(levels(2)).out_of_range is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"runtime": "tensorrt"}, "no runtime 'tensorrt'"),
        ({"precision": "f16"}, "no precision 'f16'"),
        ({"precision": "int8"}, "no int8 graph"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "bf16 needs the runtime openvino"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(bundle: Bundle, arguments: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_runtime(bundle, **arguments)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_file_that_is_no_graph_is_said_in_a_sentence(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be opened"):
        open_onnx(tmp_path / "model.onnx", runtime=runtime)


def test_pixels_of_another_size_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        open_runtime(bundle).predict(np.zeros((1, 16, 16, 3), np.uint8))


def test_nothing_here_imports_torch() -> None:
    code = "import sys, components.core.runtime, components.core.pixels; print('torch' in sys.modules)"
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that says it is for CUDA, as onnxruntime-gpu does everywhere, where CUDA cannot be used."""
    import onnxruntime

    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a CUDA device")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])


@pytest.mark.parametrize("asked", ["auto", "onnxruntime"])
@pytest.mark.parametrize("wished", ["auto", "openvino", "onnxruntime"])
def test_a_runtime_for_cuda_never_runs_on_the_cpu_without_a_word(
    bundle: Bundle, for_cuda: None, asked: str, wished: str
) -> None:
    """Whatever the bundle wishes, it is the device of the one who serves it that counts."""
    wishing = replace(bundle, info=bundle.info.model_copy(update={"runtime": wished}))
    with pytest.raises(UserError, match="there is no NVIDIA device here; give it a GPU"):
        open_runtime(wishing, asked)


def test_who_asks_for_openvino_gets_the_cpu_beside_a_runtime_for_cuda(bundle: Bundle, for_cuda: None) -> None:
    assert open_runtime(bundle, "openvino").device == "CPU"


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(bundle: Bundle) -> None:
    import onnxruntime

    if not Path("/dev/nvidiactl").exists() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("no CUDA device, or ONNX Runtime without CUDA")
    runtime = open_runtime(bundle)
    assert runtime.device == "CUDA"
    on_gpu = runtime.predict(levels(1, 2, 3))
    on_cpu = open_runtime(bundle, "openvino").predict(levels(1, 2, 3))
    assert np.abs(on_gpu.scores - on_cpu.scores).max() < 1e-3


def test_inference_reports_to_nobody(bundle: Bundle) -> None:
    program = (
        "import sys; from pathlib import Path; from components.core.bundle import read_bundle\n"
        "from components.core.runtime import open_runtime\n"
        "open_runtime(read_bundle(Path(sys.argv[1])), runtime='openvino')\n"
        "import openvino.tools.ovc, nncf\n"
        "assert not any(name.startswith('openvino_telemetry.') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(bundle.folder)], check=True)


def test_no_thread_is_pinned_and_a_few_streams_compute_where_they_are_called(bundle: Bundle) -> None:
    """Pinned threads of two processes would share the first cores, however many there are."""
    function = open_runtime(bundle, "openvino", threads=2, streams=2)._function
    assert isinstance(function, _OpenVinoFunction)
    assert len(function._compiled) == 2
    assert not any(compiled.get_property("ENABLE_CPU_PINNING") for compiled in function._compiled)
    assert all(compiled.get_property("INFERENCE_NUM_THREADS") == 1 for compiled in function._compiled)
