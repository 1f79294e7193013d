"""What runs in every pod of a TrainJob: fetch the inputs, start torchrun, and on the first node hand over the outputs.

Exit status 1 is a mistake that a restart does not mend; 3 and signals are for a restart, which goes on from the
checkpoint. The TrainJob controller sets the PET_* variables through which torchrun's processes find each other.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

from components.core.errors import TERMINATION_LOG_VARIABLE, UserError, reported
from components.train_job.exchange import Exchange

RESTART = 3


def work(exchange: Exchange, arguments: list[str], folder: Path) -> int:
    """Train in `folder` with the arguments of components.train; returns the exit status.

    Raises UserError with the sentence of the process that ended with one.
    """
    inputs = exchange.get_inputs(folder)
    output, sentence = folder / "output", folder / "sentence"
    command = [sys.executable, "-m", "torch.distributed.run", "-m", "components.train", *arguments]
    command += ["--shard-index", str(inputs["shard_index"]), "--splits", str(inputs["splits"]), "--output", str(output)]
    process = subprocess.Popen(command, env={**os.environ, TERMINATION_LOG_VARIABLE: str(sentence)})

    def pass_on(number: int, _: FrameType | None) -> None:
        # A node that is being taken away says so first; training writes a checkpoint in the time that is left.
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        if sentence.is_file():
            raise UserError(sentence.read_text())
        print(f"torchrun ended with status {status}; the job is started again from its checkpoint.", flush=True)
        return RESTART
    if os.environ.get("PET_NODE_RANK", "0") == "0":
        exchange.put_outputs(
            {"bundle": output / "model", "report": output / "train.html", "curves": output / "curves.png"}
        )
    return 0


def main() -> None:
    """Read the arguments and work."""
    parser = argparse.ArgumentParser(prog="python -m components.train_job.worker", description=__doc__)
    parser.add_argument("--data-uri", required=True, help="our bucket, s3://…")
    parser.add_argument("--job", required=True, help="fingerprint of the job")
    parser.add_argument("training", nargs="*", metavar="-- ARGUMENTS", help="arguments of components.train")
    arguments = parser.parse_args()
    with reported(), tempfile.TemporaryDirectory() as folder:
        sys.exit(work(Exchange(arguments.data_uri, arguments.job), arguments.training, Path(folder)))


if __name__ == "__main__":
    main()
