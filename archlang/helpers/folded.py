"""Modules that only evaluate, and work out once what their weights determine."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn


class Folded(nn.Module):
    """A module that only evaluates. `derive` works out what its weights determine: when it is made, and whenever they
    are loaded, moved or cast. Call `fold` after changing weights by hand.
    """

    def __init__(self) -> None:
        super().__init__()
        register: Callable[..., Any] = self.register_load_state_dict_post_hook
        register(_loaded)

    def derive(self) -> None:
        """Nothing, in a module whose weights are used as they are."""

    def fold(self) -> None:
        """Derive again, here and in all modules below."""
        for module in reversed(list(self.modules())):
            if isinstance(module, Folded):
                module.derive()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation, as a part of what trains, too."""
        return super().train(False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        self.derive()
        return self


def _loaded(module: Any, keys: Any) -> None:
    module.derive()
