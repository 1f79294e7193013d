"""The machine that a figure comes from, in words; the same words in every table."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def accelerator() -> str:
    """The first GPU's name, without loading what would compute on it."""
    if not shutil.which("nvidia-smi"):
        return "no accelerator"
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.splitlines()[0] if told.returncode == 0 and told.stdout else "no accelerator"


def machine() -> str:
    """Cores that may be used, processor, memory, accelerator."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{len(os.sched_getaffinity(0))} cores {processor()}, {memory:.0f} GiB, {accelerator()}"
