"""Linear systems and powers of matrices, on two named axes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, AxisName, Emission, OpError, Primitive, Term, Types, Whole, need_named, register
from archlang.primitives.broadcast import join, known, need_new, placed, refuse
from archlang.shapes import Axis, TensorType, default_role, is_float
from archlang.sizes import Size, product


def _rows(facts: Facts, on: Sequence[str], a: TensorType) -> tuple[str, str]:
    """The axes of the rows and columns of a square matrix."""
    if len(on) != 2:
        raise OpError("A206", f"`on` is the axes of rows and columns, and here {', '.join(on)}", "on")
    row, column = on
    need_named(a, on, "a")
    if not facts.equal(a.size(row), a.size(column)):
        shape = f"{row} = {a.size(row)}, {column} = {a.size(column)}"
        raise OpError("A204", f"`a` must be square, and has {shape}", "a")
    return row, column


def _need_floats(**types: TensorType) -> None:
    for name, type_ in types.items():
        if not is_float(type_.dtype):
            raise refuse(type_, "linear algebra takes float tensors", "`cast(x, float)`", name)


@register
class Solve(Primitive):
    """x with sum over j of a[i, j] x[j] = b[i]; `on` names the axes of the rows i and columns j of a.

    x stands on the axes of b: its j is called as the rows. Other axes of a are systems of their own, those of b alone
    are more right sides: also the axis of the columns, so that b may be a matrix over the same two axes.
    """

    name: ClassVar[str] = "solve"
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")

    on: Axes

    def infer(self, facts: Facts, a: TensorType, b: TensorType) -> TensorType:
        _need_floats(a=a, b=b)
        row, column = _rows(facts, self.on, a)
        need_named(b, [row], "b")
        join(facts, a.without(column), b)
        return join(facts, b, a.without(row, column))

    def emit(self, code: Emission, a: Term, b: Term) -> Term:
        row, column = self.on
        systems = [name for name in a.order if name not in (row, column)]
        right = tuple(name for name in b.order if name != row and name not in systems)
        a = code.permute(a, (*systems, row, column))
        if any(name in b.order for name in systems):
            b = placed(code, b, (*systems, *right, row))
        b = code.flat(b, right, "right")
        b = code.permute(b, (*(name for name in b.order if name not in (row, "right")), row, "right"))
        made = Term(f"torch.linalg.solve({a.code}, {b.code})", (*systems, row, "right"))
        return code.split(made, "right", [code.inputs[1][name] for name in right])

    def memory(self, a: TensorType, b: TensorType) -> Memory:
        """The factors of a and how their rows were exchanged."""
        return Memory({"a": ""}, output=True, kept=a.bytes + a.without(self.on[1]).cast("int32").bytes)

    def reference(self, types: Types, a: Named, b: Named) -> Named:
        import torch

        row, column = self.on
        systems = tuple(name for name in a.names if name not in (row, column))
        inverse = Named(torch.linalg.inv(a.to((*systems, row, column))), (*systems, "made", row))
        return (inverse * b).sum([row]).rename(made=row)

    def mixes(self, a: TensorType, b: TensorType) -> frozenset[str]:
        return frozenset(self.on)


@register
class Krylov(Primitive):
    """y[t] = sum over i of read[i] (a^t b)[i], t = 0, 1, .. along a new axis of a size that is a number: what a linear
    system says, step after step, once it was struck. `on` names the axes of the rows and columns of a.
    """

    name: ClassVar[str] = "krylov"
    inputs: ClassVar[tuple[str, ...]] = ("a", "b", "read")

    on: Axes
    axis: AxisName
    size: Whole

    def infer(self, facts: Facts, a: TensorType, b: TensorType, read: TensorType) -> TensorType:
        _need_floats(a=a, b=b, read=read)
        row, column = _rows(facts, self.on, a)
        for name, type_ in (("b", b), ("read", read)):
            need_named(type_, [row], name)
            if column in type_:
                raise OpError("A205", f"`{name}` is a vector over `{row}`, and has `{column}` too", name)
        if not isinstance(self.size, int) or self.size < 1:
            raise OpError("A220", f"`krylov` makes a number of powers, and here {self.size}", "size")
        need_new(join(facts, a, b, read), self.axis, "axis")
        joined = join(facts, a.without(column), b, read).without(row)
        return joined.swapped((), [Axis(self.axis, self.size, default_role(self.axis))])

    def _lead(self, a: TensorType, b: TensorType) -> list[Axis]:
        """The axes of the systems: those of a, then those of b alone."""
        own = [axis for axis in a if axis.name not in self.on]
        return [*own, *(axis for axis in b if axis.name not in (*self.on, *a.names))]

    def emit(self, code: Emission, a: Term, b: Term, read: Term) -> Term:
        row, column = self.on
        lead = tuple(axis.name for axis in self._lead(*code.inputs[:2]))
        own = tuple(name for name in lead if name in a.order)
        a = placed(code, a, (*lead, row, column) if own != lead else (*own, row, column))
        b = placed(code, b, (*lead, row) if any(name in b.order for name in lead) else (row,))
        columns = f"{code.helper('krylov')}({a.code}, {b.code}, {code.size(self.size)})"
        outer = tuple(name for name in read.order if name != row and name not in lead)
        read = placed(code, read, (*lead, *outer, row))
        if len(outer) != 1:
            read = code.permute(code.flat(read, outer, "outer"), (*lead, "outer", row))
        made = Term(f"{read.safe} @ {columns}", (*lead, "outer", self.axis), tight=False)
        return code.split(made, "outer", [code.inputs[2][name] for name in outer])

    def memory(self, a: TensorType, b: TensorType, read: TensorType) -> Memory:
        """The powers of a by which columns were doubled, and the columns each time."""
        kept: Size = 0
        count = 2
        while count < self.size:
            kept, count = kept + a.bytes + b.bytes * count, count * 2
        grown = a if self.size > 1 else None
        return Memory(
            {"b": "", "read": ""} | ({"a": ""} if grown else {}), kept=kept + (b.bytes * count if grown else 0)
        )

    def reference(self, types: Types, a: Named, b: Named, read: Named) -> Named:
        import torch

        row, column = self.on
        rows = []
        for _ in range(known(types.outputs[0].size(self.axis))):
            rows.append((read * b).sum([row]))
            b = (a * b.rename(**{row: column})).sum([column])
        kept = tuple(axis.name for axis in types.outputs[0] if axis.name != self.axis)
        shape = [known(types.outputs[0].size(name)) for name in kept]
        return Named(torch.stack([row.to(kept).expand(shape) for row in rows]), (self.axis, *kept))

    def macs(self, a: TensorType, b: TensorType, read: TensorType) -> Size:
        lead = self._lead(a, b)
        names = [*self.on, *(axis.name for axis in lead)]
        n: Size = a.size(self.on[0])
        own: Size = product(axis.size for axis in a if axis.name not in self.on)
        systems: Size = product(axis.size for axis in lead)
        outer: Size = product(axis.size for axis in read if axis.name not in names)
        squares = (known(self.size) - 1).bit_length()
        size: Size = self.size
        total: Size = systems * n * (n * (2**squares - 1) + outer * size) + own * n * n * n * squares
        return total

    def mixes(self, *inputs: Any) -> frozenset[str]:
        return frozenset(self.on)
