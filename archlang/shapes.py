"""Tensor types: named axes with roles and sizes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Literal

from archlang.sizes import Size, product

Role = Literal["batch", "channel", "time", "space", "free"]
ROLES: tuple[Role, ...] = ("batch", "channel", "time", "space", "free")
AXIS_WORDS = frozenset({*ROLES, "all"})  # that stand for axes, and name none
_NAMED_ROLES: dict[str, Role] = {
    "b": "batch",
    "c": "channel",
    "t": "time",
    "h": "space",
    "w": "space",
    "d": "space",
    "n": "space",
}

DTYPES = frozenset(
    [
        "float",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "bool",
        "complex",
        "complex64",
        "complex128",
        "segments",
    ]
)
BYTES = {"float16": 2, "bfloat16": 2, "float64": 8, "int": 8, "int8": 1, "int16": 2, "int64": 8, "uint8": 1, "bool": 1}
BYTES |= {"complex": 8, "complex64": 8, "complex128": 16, "segments": 8}


def default_role(name: str) -> Role:
    """The role that the name of an axis gives it: `b` batch, `c` channel, `t` time, `h w n d` space, else free."""
    return _NAMED_ROLES.get(name, "free")


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis. `size` is an int or a symbolic size."""

    name: str
    size: Size
    role: Role

    def __str__(self) -> str:
        role = f": {self.role}" if self.role != default_role(self.name) else ""
        size = f" = {self.size}" if str(self.size) != self.name else ""
        return f"{self.name}{role}{size}"


def axis(name: str, size: Size, role: Role | None = None) -> Axis:
    """An axis; its role follows its name unless given."""
    return Axis(name, size, role or default_role(name))


@dataclass(frozen=True)
class TensorType:
    """`dtype[axis, ...]`. `lost` holds the time axes that a value has seen whole (a mean over time), which must not
    meet time again.
    """

    axes: tuple[Axis, ...]
    dtype: str = "float"
    lost: frozenset[str] = field(default=frozenset(), compare=False)

    def __str__(self) -> str:
        return _shown(self)

    __repr__ = __str__

    def __hash__(self) -> int:
        """Worked out once, as the names are: much is looked up by type."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.axes, self.dtype))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Axis:
        return self.axes[self.names.index(name)]

    def __iter__(self) -> Iterator[Axis]:
        return iter(self.axes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple([axis.name for axis in self.axes])

    @property
    def numel(self) -> Size:
        """The number of elements."""
        return product(axis.size for axis in self.axes)

    @property
    def bytes(self) -> Size:
        """The size in memory; the working type `float` counts 4 bytes."""
        return self.numel * BYTES.get(self.dtype, 4)

    def size(self, name: str) -> Size:
        return self[name].size

    def of_role(self, *roles: str) -> tuple[str, ...]:
        """The names of the axes with one of these roles, in order."""
        return tuple(axis.name for axis in self.axes if axis.role in roles)

    def without(self, *names: str) -> "TensorType":
        return replace(self, axes=tuple(axis for axis in self.axes if axis.name not in names))

    def resized(self, /, **sizes: Size) -> "TensorType":
        """The same axes with some sizes changed."""
        return replace(self, axes=tuple(replace(a, size=sizes.get(a.name, a.size)) for a in self.axes))

    def swapped(self, old: Iterable[str], new: Iterable[Axis]) -> "TensorType":
        """`new` in the place of the last of the axes `old` (at the end where there are none)."""
        gone = set(old)
        at = max((i for i, a in enumerate(self.axes) if a.name in gone), default=len(self.axes))
        before = tuple(a for a in self.axes[:at] if a.name not in gone)
        return replace(self, axes=(*before, *new, *(a for a in self.axes[at:] if a.name not in gone)))

    def cast(self, dtype: str) -> "TensorType":
        return replace(self, dtype=dtype)


@cache
def _shown(type_: TensorType) -> str:
    """The text of a type; kept, since every digest of a graph is made of them."""
    return f"{'' if type_.dtype == 'float' else type_.dtype}[{', '.join(map(str, type_.axes))}]"


SCALAR = TensorType(())


def is_float(dtype: str) -> bool:
    return "float" in dtype


def promote(*dtypes: str) -> str:
    """The dtype of arithmetic between tensors, as in PyTorch; `float` is the working type and loses to an explicit
    wider one.
    """
    order = [
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "int",
        "segments",
        "float",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ]
    order += ["complex", "complex64", "complex128"]
    if {"float16", "bfloat16"} <= set(dtypes):
        return "float32"
    return max(dtypes, key=order.index)
