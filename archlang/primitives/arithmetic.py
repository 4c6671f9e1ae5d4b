"""Elementwise arithmetic between values that broadcast by name: the operators of the language."""

from typing import Any, ClassVar

from archlang.named import Named
from archlang.primitive import Emission, OpError, Primitive, Term, register
from archlang.shapes import TensorType, promote
from archlang.sizes import Facts


def broadcast(facts: Facts, *types: TensorType) -> TensorType:
    """The union of the axes by name, those of the first type first; equal names must have equal sizes."""
    axes = {axis.name: axis for axis in types[0]}
    for type_ in types[1:]:
        for axis in type_:
            known = axes.setdefault(axis.name, axis)
            if not facts.equal(known.size, axis.size):
                raise OpError("A204", "axis sizes do not agree", axis.name)
            if known.role != axis.role:
                raise OpError("A210", f"axis `{axis.name}` is {known.role} in one value and {axis.role} in the other", axis.name)
    return TensorType(tuple(axes.values()), promote(*(type_.dtype for type_ in types)))


class Binary(Primitive):
    """An operator on two values, or on a value and a number (`number` on the side that has no tensor)."""

    inputs: ClassVar[tuple[str, ...]] = ("a?", "b?")
    operator: ClassVar[str] = ""  # in the language and in Python
    level: ClassVar[int] = 0

    number: Any = None

    def infer(self, facts: Facts, a: TensorType | None, b: TensorType | None) -> TensorType:
        types = [type_ for type_ in (a, b) if type_ is not None]
        return self.result(broadcast(facts, *types))

    def result(self, type_: TensorType) -> TensorType:
        return type_
