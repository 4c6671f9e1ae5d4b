"""Tokens that move along an axis, each group of channels by a distance of its own."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import (
    AxisName,
    Emission,
    OpError,
    Primitive,
    Term,
    Types,
    describe,
    need_axes,
    need_named,
    register,
)
from archlang.primitives.broadcast import index
from archlang.primitives.sliding import behind_tail, need_float
from archlang.shapes import TensorType
from archlang.sizes import Poly


def _steps(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value or not all(type(step) is int for step in value):
        raise ValueError(f"must be whole numbers, as [-1, 0, 1], and is {describe(value)}")
    return tuple(value)


@register
class Shift(Primitive):
    """y[.., p, c] = x[.., p - by[g], c], p along `on` and g the group of c: as many groups of neighbours as distances.

    Groups have ceil(c / n) channels, the last maybe fewer. Outside of x is 0, or with `mode = "circular"` the other
    end. On time, distances are not negative (token shift: `shift([1, 0], on = t)`). Axial shift: Lian et al., AS-MLP,
    ICLR 2022, arXiv:2107.08391; temporal shift: Lin et al., TSM, ICCV 2019, arXiv:1811.08383.
    """

    name: ClassVar[str] = "shift"
    saves: ClassVar[tuple[str, ...]] = ()

    by: Annotated[tuple[int, ...], BeforeValidator(_steps)]
    on: AxisName
    mode: Literal["zeros", "circular"] = "zeros"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_axes(x, ("c",))
        need_named(x, (self.on,))
        if self.on == "c":
            raise OpError("A206", "`shift` moves groups of channels along another axis than `c`", "on")
        whole, groups = x.size("c"), len(self.by)
        if isinstance(whole, Poly):
            raise OpError("A309", f"the channels of `shift` must be known when it is compiled, and are {whole}", "x")
        size = -(-int(whole) // groups)
        if (groups - 1) * size >= int(whole):
            title = f"groups of {size} channels leave nothing of c = {whole} for the last of {groups}"
            raise OpError("A204", title, "by")
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        circular = ", circular=True" if self.mode == "circular" else ""
        places = f"{x.order.index(self.on)}, {x.order.index('c')}"
        by = code.const(self.by)
        return Term(f"{code.helper('shift_groups')}({x.code}, {by}, {places}{circular})", x.order)

    def resume(self, code: Emission, x: Term) -> Term:
        """The positions that are still seen, before those at hand."""
        reach = max(self.by)
        if not self.state(*code.inputs):
            return self.emit(code, x)
        made = self.emit(code, behind_tail(code, x, self.on, reach))
        return Term(index(made, {self.on: f"{code.const(reach)}:"}), made.order)

    def _groups(self, x: Named) -> Iterator[tuple[int, Named]]:
        """The distance of each group with its part of x."""
        size = -(-x.size("c") // len(self.by))
        for i, step in enumerate(self.by):
            yield step, x.select("c", slice(i * size, (i + 1) * size))

    def reference(self, types: Types, x: Named) -> Named:
        size, parts = x.size(self.on), []
        for step, group in self._groups(x):
            places = [p - step for p in range(size)]
            inside = [self.mode == "circular" or 0 <= place < size for place in places]
            moved = group.select(self.on, [place % size for place in places])
            parts.append(moved * Named(x.tensor.new_tensor(inside), (self.on,)))
        return _joined(parts, x.names)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset((self.on,)) if any(self.by) else frozenset()

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        ahead = min(self.by) < 0 or self.mode == "circular"
        return self.mixes(x) if ahead else frozenset()

    def state(self, x: TensorType) -> Mapping[str, TensorType]:
        """The positions that are still to be seen."""
        if x[self.on].role != "time" or not any(self.by):
            return {}
        return {"tail": x.resized(**{self.on: max(self.by)})}

    def step(self, types: Types, state: Mapping[str, Named], x: Named) -> tuple[Named, dict[str, Named]]:
        import torch

        reach = max(self.by)
        past = state["tail"] if state else x.select(self.on, [0] * reach).map(torch.zeros_like)
        seen = Named(torch.cat([past.to(x.names), x.tensor], x.at(self.on)), x.names)
        parts = [group.select(self.on, [reach - step]) for step, group in self._groups(seen)]
        return _joined(parts, x.names), {"tail": seen.select(self.on, slice(1, None))}


def _joined(parts: list[Named], names: tuple[str, ...]) -> Named:
    import torch

    return Named(torch.cat([part.to(names) for part in parts], names.index("c")), names)
