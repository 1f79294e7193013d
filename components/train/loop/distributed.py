"""Several processes of one run, as torchrun starts them. With one process every function here does nothing."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

_FAILED = "bin-counter/failed"
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    rank: int
    number: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, the only one that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all processes, on every one."""
        if self.number > 1:
            values = values.to(self.device)
            distributed.all_reduce(values)
        return values.cpu()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        if self.number == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def from_lead(self, value: T) -> T:
        """What rank 0 passes, on every process."""
        if self.number == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the processes; on GPUs batch norm is synchronised too."""
        if self.number == 1:
            return model
        if self.device.type == "cuda":
            # Not torch's own: that one would drop the activation which timm's batch norm carries.
            model = convert_sync_batchnorm(model)
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes of the run, gloo on CPUs and nccl on GPUs, and leave them at the end."""
    rank, number = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if number == 1:
        yield Processes(0, 1, device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    # Rank 0 may decode for minutes while the others wait.
    store, rank, number = next(rendezvous("env://", rank, number))
    distributed.init_process_group(backend, store=store, rank=rank, world_size=number, timeout=timedelta(hours=2))
    try:
        with _ending_together(store, rank):
            yield Processes(rank, number, device)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _ending_together(store: Any, rank: int) -> Iterator[None]:
    """Within the block, a process that fails ends all others; else they wait until a collective call times out."""
    left, own = threading.Event(), store.clone()  # a connection of its own, because the other may be waiting

    def watch() -> None:
        while not left.wait(_LOOK_SECONDS):
            try:
                failed = own.check([_FAILED])
            except Exception:  # the store ends with the process that holds it; who waits for that one is told by gloo
                return
            if failed and not left.is_set():
                print(f"Process {rank} ends, because another of the run failed; that one says why.", flush=True)
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except Exception:
        left.set()
        store.set(_FAILED, str(rank))
        time.sleep(3 * _LOOK_SECONDS)  # the store may end with this process, and the others have to look first
        raise
    finally:
        left.set()
