"""Hypothesis strategies for types, and types written briefly."""

from collections.abc import Sequence

from hypothesis import strategies as st

from archlang.shapes import Axis, TensorType, axis
from archlang.sizes import symbol

NAMES = ("b", "t", "c", "h", "w", "heads")


def tensor(dtype: str = "float", **sizes: int | str) -> TensorType:
    """`tensor(b="b", c=4)` is float[b, c = 4]: a string is a free size."""
    return TensorType(tuple(_axis(name, size) for name, size in sizes.items()), dtype)


def _axis(name: str, size: int | str) -> Axis:
    return axis(name, symbol(size) if isinstance(size, str) else size)


@st.composite
def tensor_types(
    draw: st.DrawFn,
    *,
    must: Sequence[str] = (),
    names: Sequence[str] = NAMES,
    dtype: str = "float",
    most: int = 4,
    largest: int = 4,
) -> TensorType:
    """A type with the axes `must` among others, in any order; about one size in four is free."""
    extra = [name for name in names if name not in must]
    others = draw(st.lists(st.sampled_from(extra), unique=True, max_size=most - len(must)) if extra else st.just([]))
    order = draw(st.permutations([*must, *others]))
    sizes = {name: draw(st.integers(1, largest)) for name in order}
    free = {name for name in order if draw(st.integers(0, 3)) == 0}
    return tensor(dtype, **{name: name if name in free else size for name, size in sizes.items()})
