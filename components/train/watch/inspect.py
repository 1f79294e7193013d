"""A look inside the network while it trains: how gradients pass through the layers, and which channels never fire."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish)


class Inspector:
    """Looks at one model. Watching activations costs a pass over them, so it is done in validation only."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        self.rectifiers = [module for module in model.modules() if isinstance(module, _RECTIFIERS)]
        self._fired: dict[int, Tensor] = {}

    def first_to_last_gradient(self) -> float:
        """Root mean square of the first layer's gradient, relative to the last layer's. 1 for a single layer."""
        first, last = (layer.grad for layer in (self.layers[0], self.layers[-1]))
        if first is None or last is None:
            return 1.0
        return (first.square().mean().sqrt() / last.square().mean().sqrt().clamp(min=1e-30)).item()

    @property
    def dead_units(self) -> float:
        """Share of the channels after rectifiers that were 0 for every sample watched; 0 where there are none."""
        if not self._fired:
            return 0.0
        fired = torch.cat(list(self._fired.values()))
        return 1 - fired.float().mean().item()

    @contextmanager
    def watching_activations(self) -> Iterator[None]:
        """Note within the block which channels fire."""
        self._fired.clear()

        def note(module: nn.Module, _: object, output: Tensor) -> None:
            other = [dimension for dimension in range(output.ndim) if dimension != 1]
            fired = output.detach().amax(other) > 0
            before = self._fired.get(id(module))
            self._fired[id(module)] = fired if before is None else before | fired

        handles = [module.register_forward_hook(note) for module in self.rectifiers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
