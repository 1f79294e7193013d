"""The same DAG on one machine: the embedded store, kfp.local with a subprocess a step, and a folder of results."""

import contextlib
import hashlib
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
from kfp import local

from components.core.errors import TERMINATION_LOG_VARIABLE, UserError
from components.core.images import PIPELINE_IMAGE, TRAIN_IMAGE
from components.core.pruned import times_pruned
from components.core.recounts import read_labels
from components.core.registry import Registry
from components.core.run import fingerprint
from components.core.store import open_store
from pipeline.console import CacheNews, Console, stdout, steps_marked
from pipeline.dag import build_pipeline
from pipeline.home import checked_home
from pipeline.inputs import by_content
from pipeline.local_store import HOME, local_store
from pipeline.parameters import Parameters
from pipeline.results import collect_results, print_summary
from pipeline.run_record import recorded
from pipeline.source import prepare_source
from pipeline.watch import end_processes, watched

REPOSITORY = Path(__file__).parent.parent
# Only these belong to the public face of a run that the launcher itself uses; the rest goes to the DAG as it is.
LAUNCHER_PARAMETERS = {"source"}
GRACE_SECONDS = 5.0


def run_local(parameters: Parameters, home: Path = HOME) -> None:
    """Run the whole DAG on this machine and leave the results in `home`/latest. Raises UserError."""
    home = checked_home(home).resolve()
    with (
        _ended_by_signal(),
        watched(),
        _no_process_left(),
        local_store(home / "store") as store,
        recorded(home, parameters) as this,
    ):
        os.environ.update(store.environment())
        os.environ["BIN_COUNTER_CACHE"] = str(home / "cache")
        parameters = by_content(parameters)
        source = prepare_source(parameters.source, parameters.seed)
        snapshot = read_labels(open_store(parameters.data_uri)).named(source.snapshot)
        images = {name: f"python-local/{name}:{_digest(name)}" for name in (PIPELINE_IMAGE, TRAIN_IMAGE)}
        inputs = {**parameters.model_dump(mode="json"), "source": source.uri, "snapshot": snapshot, **images}
        run = fingerprint(inputs)
        arguments = {
            **parameters.model_dump(exclude=LAUNCHER_PARAMETERS),
            "source": source.uri,
            "snapshot": snapshot,
            "champion": Registry.open(parameters.models_uri).champion_for(run),
            "run": run,
            "pruned": times_pruned(parameters.data_uri),
            "pipeline_image": images[PIPELINE_IMAGE],
            "train_image": images[TRAIN_IMAGE],
        }
        outputs = _run_dag(arguments, home / "kfp")
        results = collect_results(outputs, home, this, source)
        print_summary(results, Registry.open(parameters.models_uri).serving())


def _run_dag(arguments: dict[str, object], pipeline_root: Path) -> dict[str, object]:
    """Run the DAG through kfp.local. Raises UserError with the failed step's own sentence."""
    pipeline_root.mkdir(parents=True, exist_ok=True)
    termination_log = pipeline_root / "termination-log"
    termination_log.unlink(missing_ok=True)
    os.environ[TERMINATION_LOG_VARIABLE] = str(termination_log)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    # A step's output is a pipe, where tqdm writes every refresh as a line of its own.
    os.environ.setdefault("TQDM_MININTERVAL", "5")
    # The runner looks for the word "python" in an image name that is still a pipeline parameter at that moment.
    warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(pipeline_root),
        cache_root=str(pipeline_root / "cache"),
        enable_caching=True,
    )
    pipeline = build_pipeline(target="local")
    with _told_plainly():
        try:
            return pipeline(**arguments).outputs
        except RuntimeError as error:
            if not termination_log.exists():
                raise UserError(
                    "A step ended unexpectedly; its own output above says where. Please report it with that output."
                ) from error
            raise UserError(termination_log.read_text()) from error


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Show the steps' output through our Console, and which steps were cached."""
    news = CacheNews(stdout())
    root = logging.getLogger()
    level = root.level
    root.addHandler(news)
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(Console(stdout())), steps_marked():
            yield
    finally:
        root.removeHandler(news)
        root.setLevel(level)


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let SIGTERM end the run the way Ctrl-C does, so that everything is put away."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _no_process_left() -> Iterator[None]:
    """End what the steps started, whatever happened; a second Ctrl-C meanwhile is ignored."""
    try:
        yield
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_processes(psutil.Process().children(recursive=True), GRACE_SECONDS)
        signal.signal(signal.SIGINT, before)


def _digest(image: str) -> str:
    """Digest of the code that `image` would hold: a change of it re-does the steps that run in it."""
    steps = (
        ["train"]
        if image == TRAIN_IMAGE
        else ["choose_recipe", "ingest_metadata", "split", "download", "evaluate", "gate", "deploy"]
    )
    folders = [REPOSITORY / "components" / name for name in ["core", *steps]]
    digest = hashlib.sha256((REPOSITORY / "requirements" / "dev.txt").read_bytes())
    for path in sorted(path for folder in folders for path in folder.rglob("*.*") if "__pycache__" not in path.parts):
        digest.update(str(path.relative_to(REPOSITORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
