"""Ctrl-C at any moment: no process stays behind, and the next run works."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent.parent
SETTINGS = ["EPOCHS=2", "IMAGE_SIZE=64", "FORCE=true", "MAX_REJECT_SHARE=0.1"]
EXIT_SECONDS = 60.0
INTERRUPTED = 130
# A line of the output, and how long after it the key is pressed.
MOMENTS = [
    ("", 0.5),
    ("", 2.5),
    ("loading", 0.05),
    ("▶ ingest_metadata", 0.3),
    ("▶ split", 0.5),
    ("▶ download", 0.5),
    ("▶ train", 1.0),
    ("▶ train", 8.0),
    ("▶ evaluate", 2.0),
    ("▶ gate", 0.5),
    ("▶ deploy", 0.5),
    ("▶ deploy", 6.0),
]


@dataclass
class PipelineRun:
    """A run of the command line in a process group of its own, as a terminal would start it."""

    source: Path
    home: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    output: str = ""

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", f"SOURCE={self.source}", *SETTINGS],
            cwd=ROOT,
            env={**os.environ, "BIN_COUNTER_HOME": str(self.home), "RUN_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            # A shell that starts us in the background has SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 4096):
            self.output += chunk.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        while text not in self.output:
            assert self.process.poll() is None, self.output
            time.sleep(0.02)

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        status = self.process.wait(EXIT_SECONDS)
        self.reader.join(EXIT_SECONDS)
        return status

    def left_behind(self) -> list[str]:
        """Command lines of processes that still carry the run's mark in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RUN_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


def test_ctrl_c_at_any_moment_leaves_no_process_and_the_next_run_works(source: Path, tmp_path: Path) -> None:
    for text, delay in MOMENTS:
        run = PipelineRun(source, tmp_path)
        run.wait_for(text)
        time.sleep(delay)
        run.press_ctrl_c()
        status = run.end()
        assert run.left_behind() == [], (text, delay)
        assert "Traceback" not in run.output, (text, delay, run.output)
        assert status == INTERRUPTED, (text, delay, run.output)
    final = PipelineRun(source, tmp_path)
    assert final.process.wait(300) == 0, final.output
    final.end()
    assert final.left_behind() == []
    assert (tmp_path / "latest" / "metrics.json").is_file()


def test_a_killed_run_leaves_no_process_and_the_next_run_works(source: Path, tmp_path: Path) -> None:
    """Not even SIGKILL, which nothing can answer, leaves the store or a step running."""
    run = PipelineRun(source, tmp_path)
    run.wait_for("▶ train")
    time.sleep(2)
    run.process.kill()
    run.end()
    deadline = time.monotonic() + EXIT_SECONDS
    while run.left_behind() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert run.left_behind() == []
    final = PipelineRun(source, tmp_path)
    assert final.process.wait(300) == 0, final.output
    final.end()
