"""Networks that go on where the last call stopped."""

from collections.abc import Mapping

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState
from archlang.helpers.folded import Folded
from archlang.helpers.past_cache import PastCache


class Resumable(Folded):
    """A network that evaluates a sequence in pieces: each call goes on where the last one stopped, and one that fails
    leaves the state as it was.
    """

    def reset(self, capacity: int = 0) -> None:
        """Start a new sequence, of any number of samples. Caches have room for `capacity` positions at once."""
        self.carried = {name: module for name, module in self.named_modules() if isinstance(module, CarriedState)}
        self.clock = torch.empty(0, 0, 0)  # [samples, past, 0]: numbers of a module are constants to compilers
        for module in self.carried.values():
            module.reset()
            if isinstance(module, PastCache):
                module.capacity = capacity

    @property
    def past(self) -> int:
        """How many positions were seen."""
        return self.clock.shape[1]

    def begin(self, samples: int) -> int:
        """How many positions came before the call at hand."""
        held, past, _ = self.clock.shape
        if past > 0 and held != samples:
            raise ValueError(f"the sequence has {held} samples, and this call {samples}; reset() starts a new one")
        return past

    def end(self, samples: int, past: int) -> None:
        """The call at hand has come to its end: so many positions were seen."""
        self.clock = torch.empty(samples, past, 0)
        for module in self.carried.values():
            module.settle()

    def state(self) -> dict[str, Tensor]:
        """All that the next call needs of those before, by name, to be saved and loaded; `past` of every sample is how
        many positions were seen.
        """
        kept = {name: module.saved(self.past) for name, module in self.carried.items()} if self.past else {}
        parts = {
            name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in kept.items() if x is not None
        }
        return {"past": torch.full(self.clock.shape[:1], self.past), **parts}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, here or in another network that is the same."""
        parts = {name: value for name, value in state.items() if name != "past"}
        if "past" not in state:
            raise ValueError("this is no state of a network: `past`, the number of positions seen, is missing")
        samples, past = len(state["past"]), int(state["past"].max()) if len(state["past"]) else 0
        wanted = self.carried if past else {}
        if wanted.keys() != parts.keys():
            lacking, other = (
                ", ".join(sorted(a - b)) for a, b in ((wanted.keys(), parts.keys()), (parts.keys(), wanted.keys()))
            )
            raise ValueError(
                f"the state is of another network: it lacks {lacking or 'nothing'}, and has {other or 'no other'}"
            )
        for name, value in parts.items():
            self.carried[name].check(name, value, samples, past)
        self.clock = torch.empty(samples, past, 0)
        for name, module in self.carried.items():
            module.reset()
            module.held = parts[name].detach().clone() if name in parts else None

    def select(self, samples: Tensor) -> None:
        """Go on with these samples in this order, each as often as it stands there: what a beam search keeps."""
        for module in self.carried.values():
            module.select(samples)
        self.clock = torch.empty(len(samples), self.past, 0)
