"""How a network is written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from archlang.diagnostics import error, suggest

Purpose: TypeAlias = Literal["training", "inference", "decoding"]
TARGETS = ("torch", "triton", "auto")


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that a step of training may hold, weights, values and gradients, with these free sizes."""

    bytes: int
    sizes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        from archlang.analysis.memory import amount_of

        at = ", ".join(f"{name} = {size}" for name, size in self.sizes)
        return f"memory {amount_of(self.bytes)}{f' at {at}' if at else ''}"


@dataclass(frozen=True, slots=True)
class Options:
    """What a network is for, and which passes and rules are left out. `inference` writes a network that only evaluates:
    what its weights determine is worked out once, when they are loaded; `decoding` one that also goes on where the last
    call stopped. `tuned` is the text of a record of `archlang tune`, which chooses between implementations. With
    `kernels` it is made of what these take in one step.
    """

    purpose: Purpose = "training"
    disable: tuple[str, ...] = ()
    tuned: str = ""
    budget: Budget | None = None
    kernels: bool = False

    def __post_init__(self) -> None:
        _need("purpose", self.purpose, get_args(Purpose))
        if self.budget is not None and self.purpose != "training":
            raise error("A901", "a budget of memory is for training", help="in inference nothing is kept")

    @property
    def evaluates(self) -> bool:
        """Whether the network does not train."""
        return self.purpose != "training"

    def for_target(self, target: str) -> "Options":
        """The same where kernels are written, if a target has some."""
        return replace(self, kernels=has_kernels(target))

    def words(self) -> list[str]:
        """What differs from the usual, as a header of a file shows it."""
        purpose = [f"for {self.purpose}"] if self.purpose != "training" else []
        purpose += [str(self.budget)] if self.budget is not None else []
        tuned = [f"tuned for {_devices(self.tuned, self.kernels)}"] if self.tuned else []
        return [*purpose, *(f"without {name}" for name in self.disable), *tuned]


def has_kernels(target: str) -> bool:
    """Whether a target writes kernels; refuses one that there is not."""
    _need("target", target, TARGETS)
    return target != "torch"


def _devices(record: str, kernels: bool) -> str:
    """What a record was measured on, as far as that counts."""
    from archlang.tuning import loads  # knows operations, which not every network has

    known = loads(record)
    gpus = sorted(known.gpus) if kernels else []
    return ", ".join([known.device] * (known.device in known.devices or not gpus) + gpus)


def _need(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise error("A901", f"there is no {what} `{name}`", help=suggest(name, known) or f"one of {', '.join(known)}")


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,15})?) *([KMGT]?i?B?)")


def budget(memory: str | int | None, at: Mapping[str, Any]) -> Budget | None:
    """`8GiB`, or a number of bytes, with values of free sizes; None for no bound."""
    if memory is None:
        if at:
            raise error("A901", "sizes are given for a budget of memory, and there is none", help="`--memory 8GiB`")
        return None
    found = AMOUNT.fullmatch(str(memory).strip())
    if found is None or found[2] not in UNITS:
        raise error("A901", f"`{memory}` is no amount of memory", help="write 8GiB, 500MB, or a number of bytes")
    for name, size in at.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise error("A901", f"`{name}` must be a whole number from 1, and is {size}", help="`--at b=8`")
    return Budget(int(float(found[1]) * UNITS[found[2]]), tuple(sorted(at.items())))
