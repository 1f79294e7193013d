"""The moving average of the weights that is validated and served."""

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of the weights; young averages forget faster, (1+n)/(10+n) at most."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = model.state_dict()
        floating = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floating], [now[name] for name in floating], 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        model.load_state_dict(self.state)

    def swap_in(self, model: nn.Module) -> dict[str, Tensor]:
        """The same, returning the weights that it had."""
        before = {name: value.clone() for name, value in model.state_dict().items()}
        self.copy_to(model)
        return before
