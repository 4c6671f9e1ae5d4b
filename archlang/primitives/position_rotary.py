"""Rotary positions: queries and keys turned by angles that grow with their place."""

from typing import ClassVar, Literal

from archlang.facts import Condition, Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Number,
    OpError,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.attention_code import whole
from archlang.primitives.position import Position
from archlang.primitives.position_scaling import Reach
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size


def places(on: Axes | None, x: TensorType) -> tuple[str, ...]:
    """The axes that positions count along, in the order written: by default the time axis, else that of space."""
    named = on if on is not None else x.of_role("time") or x.of_role("space")
    return tuple(dict.fromkeys(name for word in named for name in axes_of((word,), x) if name != "c"))


@register
class Rope(Position):
    """Turn pairs of channels of x by angles that grow with the position: pair i by p * base^(-i / pairs) at position p
    (Su et al., RoFormer, 2021).

    `dim` channels make dim / 2 pairs, (i, i + dim / 2) as in Llama, or neighbours (2 i, 2 i + 1) where `interleaved`;
    the others pass (default: all are turned). Positions count along `on`, by default x's time axis, else its one space
    axis. Of several axes (`on = [h, w]`) each has its equal share of the pairs, in order: axial positions (Heo et al.,
    ECCV 2024). `scaling` slows turns for longer inputs. Angles are computed in float32 at least.
    """

    name: ClassVar[str] = "rope"
    role: ClassVar[Literal["bias", "rotate"]] = "rotate"

    base: Number = 10000
    dim: Whole | None = None
    interleaved: bool = False
    on: Axes | None = None
    scaling: Reach = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c", *(self.on or ())))
        if not is_float(x.dtype):
            raise OpError("A214", f"`rope` takes a float tensor, not {x}", "x")
        along = places(self.on, x)
        if not along or (self.on is None and len(along) > 1):
            found = ", ".join(along) or "none"
            help = f"name them: `on = [{found}]`" if along else "name it: `on = t`"
            raise OpError("A319", f"`rope` turns along one axis, and {x} has {found}", "on", help=help)
        if self.base <= 0:
            raise OpError("A319", f"`base` must be positive, and is {self.base}", "base")
        if self.scaling is not None:
            self.scaling.check()
        self._check_pairs(facts, x, 2 * len(along))
        return x

    def _check_pairs(self, facts: Facts, x: TensorType, parts: int) -> None:
        dim = self.turned(x)
        if (
            isinstance(dim, int)
            and dim >= parts
            and dim % parts == 0
            and facts.require(Condition("<=", dim, x.size("c")))
        ):
            return
        number = "an even number" if parts == 2 else f"a multiple of {parts}, for {parts // 2} axes,"
        raise OpError("A319", f"`rope` turns pairs of channels: {number} of at most {x.size('c')}, not {dim}", "dim")

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset("c")

    def turned(self, x: TensorType) -> Size:
        return x.size("c") if self.dim is None else self.dim

    def emit(self, code: Emission, x: Term) -> Term:
        type_, x = code.inputs[0], code.last(x, ("c",))
        axes = [str(x.order.index(name)) for name in places(self.on, type_)]
        base, named = float(self.base), {"base": code.const(float(self.base))} if self.base != 10000 else {}
        if self.scaling is not None:
            x = code.bind(x, "x")
            named = self.scaling.keywords(code, whole(self.turned(type_)) // 2 // len(axes), base)
        if self.turned(type_) != type_.size("c"):
            named["dim"] = code.size(self.turned(type_))
        if self.interleaved:
            named["interleaved"] = "True"
        options = "".join(f", {name}={text}" for name, text in named.items())
        if len(axes) == 1 and self.scaling is None:
            return Term(f"{code.helper('rotary')}({x.code}, {axes[0]}{options})", x.order)
        along = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        return Term(f"{code.helper('axial_rotary')}({x.code}, {along}{options})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        along, dim = places(self.on, types.inputs[0]), whole(self.turned(types.inputs[0]))
        kept = [name for name in x.names if name not in (*along, "c")]
        pairs, half = dim // 2 // len(along), dim // 2
        for part, axis in enumerate(along):
            order = (*(name for name in x.names if name not in (axis, "c")), axis, "c")
            rows = x.to(order)
            out = rows.clone()
            for p in range(rows.shape[-2]):
                for i in range(pairs):
                    pair = part * pairs + i
                    a, b = (2 * pair, 2 * pair + 1) if self.interleaved else (pair, pair + half)
                    angle = torch.tensor(p * self._speed(i, pairs), dtype=torch.float64)
                    out[..., p, a] = rows[..., p, a] * angle.cos() - rows[..., p, b] * angle.sin()
                    out[..., p, b] = rows[..., p, b] * angle.cos() + rows[..., p, a] * angle.sin()
            x = Named(out, order)
        gained = x.to((*kept, *along, "c")).clone()
        gained[..., :dim] = gained[..., :dim] * (self.scaling.gain() if self.scaling else 1)
        return Named(gained, (*kept, *along, "c"))

    def _speed(self, i: int, pairs: int) -> float:
        base = float(self.base)
        return self.scaling.speed(i, pairs, base) if self.scaling else float(base ** (-i / pairs))
