"""How a network is written."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from archlang.diagnostics import error, suggest
from archlang.tuning import loads

Purpose: TypeAlias = Literal["training", "inference"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a network is for, and which passes and rules are left out. `inference` writes a network that only evaluates:
    what its weights determine is worked out once, when they are loaded. `tuned` is the text of a record of `archlang
    tune`, which chooses between implementations.
    """

    purpose: Purpose = "training"
    disable: tuple[str, ...] = ()
    tuned: str = ""

    def __post_init__(self) -> None:
        _need("purpose", self.purpose, get_args(Purpose))

    def words(self) -> list[str]:
        """What differs from the usual, as a header of a file shows it."""
        purpose = [f"for {self.purpose}"] if self.purpose != "training" else []
        tuned = [f"tuned for {loads(self.tuned).device}"] if self.tuned else []
        return [*purpose, *(f"without {name}" for name in self.disable), *tuned]


def _need(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise error("A901", f"there is no {what} `{name}`", help=suggest(name, known) or f"one of {', '.join(known)}")
