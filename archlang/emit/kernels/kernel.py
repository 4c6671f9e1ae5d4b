"""What a kernel must state about itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from archlang.primitive import Primitive

Features: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """Whether a kernel takes an operation: what its text must hold for it, or why not, if it is for such."""

    features: Features | None
    reason: str = ""


def refused(reason: str) -> Served:
    """The PyTorch form stays."""
    return Served(None, reason)


class Kernel:
    """A kernel for the operation `op`: called in place of the helper `helper`, with its arguments and its meaning. It
    takes every application with one text, unless it says otherwise.
    """

    op: ClassVar[str]
    helper: ClassVar[str]  # a file of archlang/helpers, and of codegen/triton
    does: ClassVar[str]  # for `explain`
    stands_on: ClassVar[str] = ""  # a file of codegen/triton that several kernels share, with the features of all

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        """Whether an application is taken, from its hyper-parameters and the types of its inputs."""
        return Served({})

    def joined(self, features: Sequence[Features]) -> Features:
        """What one text must hold to serve applications with all of these features."""
        return {}
