"""Modules that only evaluate, and work out once what their weights determine."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import nn


class Folded(nn.Module):
    """A module that only evaluates. `derive` works out what its weights determine: when it is made, and whenever they
    are loaded, moved or cast. Call `fold` after changing weights by hand.
    """

    def derive_from(self, *modules: nn.Module) -> None:
        """Derive, now and when the weights of these modules, or of this one, are loaded."""
        self.sources = modules
        for module in (*modules, self):
            register: Callable[..., Any] = module.register_load_state_dict_post_hook
            register(partial(_loaded, self))
        self.derive()

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


def _loaded(folded: Folded, module: nn.Module, keys: Any) -> None:
    """Derive, once all that is read is in one place."""
    places = {weight.device for source in folded.sources for weight in source.parameters()}
    if module is folded or len(places) == 1:
        folded.derive()
