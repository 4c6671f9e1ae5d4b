"""Numbers of the text as tensors: fixed filters and tables."""

from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Axes, Emission, OpError, Primitive, Term, Types, describe, register
from archlang.shapes import Axis, TensorType, default_role


def _numbers(value: Any) -> Any:
    """Lists of lists of numbers, as tuples of floats."""
    if isinstance(value, list | tuple):
        return tuple(map(_numbers, value))
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise ValueError(f"must be a list of numbers, and holds {describe(value)}")
    return float(value)


@register
class Values(Primitive):
    """The numbers of a list as a tensor: `values([1, 2, 1], on = taps)`. A list of lists has an axis for each level:
    `values([[1, 0], [0, 1]], on = [h, w])`.
    """

    name: ClassVar[str] = "values"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ()

    numbers: Annotated[Any, BeforeValidator(_numbers)]
    on: Axes

    def infer(self, facts: Facts) -> TensorType:
        sizes = _shape(self.numbers)
        if len(sizes) != len(self.on) or len(set(self.on)) != len(self.on):
            axes = ", ".join(f"`{name}`" for name in self.on)
            raise OpError("A206", f"lists nested {len(sizes)} deep need as many axes, and `on` is {axes}", "on")
        return TensorType(tuple(Axis(n, s, default_role(n)) for n, s in zip(self.on, sizes, strict=True)))

    def emit(self, code: Emission) -> Term:
        return Term(code.buffer("values", f"torch.tensor({_text(self.numbers)})"), self.on)

    def reference(self, types: Types) -> Named:
        import torch

        return Named(torch.tensor(self.numbers, dtype=torch.get_default_dtype()), self.on)


def _shape(numbers: Any) -> tuple[int, ...]:
    """The sizes of lists within lists, which must be of equal length."""
    if not isinstance(numbers, tuple):
        return ()
    inner = {_shape(item) for item in numbers}
    if len(inner) != 1:
        raise OpError("A319", "lists within a list have equal lengths, of at least one number", "numbers")
    return (len(numbers), *inner.pop())


def _text(numbers: Any) -> str:
    return f"[{', '.join(map(_text, numbers))}]" if isinstance(numbers, tuple) else repr(numbers)
