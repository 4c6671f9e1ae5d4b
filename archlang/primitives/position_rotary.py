"""Rotary positions: queries and keys turned by angles that grow with their place."""

from typing import ClassVar, Literal

from pydantic import InstanceOf

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Number,
    OpError,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    describe,
    need_axes,
    register,
)
from archlang.primitives.attention_code import tuple_of, whole
from archlang.primitives.position import Position
from archlang.primitives.position_scaling import Reach
from archlang.shapes import Axis, TensorType, is_float
from archlang.sizes import Size, product


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

    def split(self, x: TensorType) -> "tuple[Turns, Turn]":
        axes = tuple(x[name] for name in places(self.on, x))
        pairs = whole(self.turned(x)) // 2 // len(axes)
        turns = Turns(axes=axes, pairs=pairs, base=self.base, scaling=self.scaling)
        return turns, Turn(on=tuple(axis.name for axis in axes), interleaved=self.interleaved)

    def emit(self, code: Emission, x: Term) -> Term:
        turns, turn = self.split(code.inputs[0])
        return turn.emit(code, x, code.bind(turns.emit(code), "turns", part=True))

    def resumes(self, x: TensorType) -> bool:
        return self.split(x)[0].resumes()

    def resume(self, code: Emission, x: Term) -> Term:
        turns, turn = self.split(code.inputs[0])
        return turn.emit(code, x, code.bind(turns.resume(code), "turns", part=True))

    def memory(self, x: TensorType) -> Memory:
        """A sine and a cosine for every pair of channels at every place."""
        exact = x if x.dtype in ("float32", "float64") else x.cast("float32")
        angles = product(x.size(name) for name in places(self.on, x)) * self.turned(x) * exact.without(*x.names).bytes
        return Memory(kept=angles, work=angles + exact.bytes, back=exact.bytes * 2)

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


PARTS, PAIRS = "*part", "*pair"  # the axes of turns beside those of places


class Turns(Primitive):
    """cos and sin of the angles of a rotary position, for every place along some axes: they follow from sizes alone."""

    name: ClassVar[str] = "turns"
    inputs: ClassVar[tuple[str, ...]] = ()
    constant: ClassVar[bool] = True

    axes: tuple[InstanceOf[Axis], ...]
    pairs: int  # of each axis
    base: Number
    scaling: Reach = None

    def __str__(self) -> str:
        options = [f"base = {describe(self.base)}", *([f"scaling = {self.scaling}"] if self.scaling else [])]
        return f"turns({', '.join([*map(str, self.axes), f'pairs = {self.pairs}', *options])})"

    def infer(self, facts: Facts) -> TensorType:
        pairs = Axis(PAIRS, self.pairs * len(self.axes), "free")
        return TensorType((Axis(PARTS, 2, "free"), *self.axes, pairs))

    def emit(self, code: Emission) -> Term:
        return self._written(code)

    def resumes(self) -> bool:
        return all(axis.role != "time" for axis in self.axes[1:])

    def resume(self, code: Emission) -> Term:
        """Places of time count on."""
        along = [i for i, axis in enumerate(self.axes) if axis.role == "time"]
        return self._written(code, **({"past": code.past(self.axes[0])} if along == [0] else {}))

    def _written(self, code: Emission, **more: str) -> Term:
        named = {"base": code.const(float(self.base))} if self.base != 10000 else {}
        if self.scaling is not None:
            named = self.scaling.keywords(code, self.pairs, float(self.base))
        named |= {"dtype": code.working(), "device": code.device()}
        given = [tuple_of(code, [axis.size for axis in self.axes]), code.size(self.pairs)]
        given += [f"{name}={text}" for name, text in {**named, **more}.items()]
        return Term(f"{code.helper('rotary_turns')}({', '.join(given)})", self.infer(Facts()).names)

    def reference(self, types: Types) -> Named:
        import torch

        angles = torch.zeros(
            [*(whole(axis.size) for axis in self.axes), len(self.axes), self.pairs], dtype=torch.float64
        )
        for part, axis in enumerate(self.axes):
            for p in range(whole(axis.size)):
                for i in range(self.pairs):
                    angles.select(part, p)[..., part, i] = p * self._speed(i)
        angles = angles.flatten(-2)
        gain = self.scaling.gain() if self.scaling else 1
        return Named(torch.stack([angles.cos(), angles.sin()]) * gain, types.outputs[0].names)

    def _speed(self, i: int) -> float:
        base = float(self.base)
        return self.scaling.speed(i, self.pairs, base) if self.scaling else float(base ** (-i / self.pairs))


class Turn(Primitive):
    """Pairs of the first channels of x turned by the angles of `turns`: what `rope` does once these are known."""

    name: ClassVar[str] = "turn"
    inputs: ClassVar[tuple[str, ...]] = ("x", "turns")

    on: tuple[str, ...]
    interleaved: bool = False

    def infer(self, facts: Facts, x: TensorType, turns: TensorType) -> TensorType:
        return x

    def mixes(self, x: TensorType, turns: TensorType) -> frozenset[str]:
        return frozenset("c")

    def memory(self, x: TensorType, turns: TensorType) -> Memory:
        """The turns, not what is turned."""
        exact = x if x.dtype in ("float32", "float64") else x.cast("float32")
        return Memory({"turns": "x"}, work=exact.bytes, back=exact.bytes * 2)

    def emit(self, code: Emission, x: Term, turns: Term) -> Term:
        x = code.last(x, ("c",))
        axes = sorted(self.on, key=x.order.index)
        turns = code.permute(turns, (PARTS, *axes, PAIRS))
        along = ", ".join(str(x.order.index(name)) for name in axes)
        given = [x.code, turns.code, f"({along}{',' if len(axes) == 1 else ''})"]
        given += ["interleaved=True"] if self.interleaved else []
        return Term(f"{code.helper('turn')}({', '.join(given)})", x.order)

    def reference(self, types: Types, x: Named, turns: Named) -> Named:

        cos, sin = turns.to((PARTS, *self.on, PAIRS))
        order = (*(name for name in x.names if name not in (*self.on, "c")), *self.on, "c")
        given = x.to(order)
        made, pairs = given.clone(), cos.shape[-1]
        for i in range(pairs):
            a, b = (2 * i, 2 * i + 1) if self.interleaved else (i, i + pairs)
            made[..., a] = given[..., a] * cos[..., i] - given[..., b] * sin[..., i]
            made[..., b] = given[..., b] * cos[..., i] + given[..., a] * sin[..., i]
        return Named(made, order)
