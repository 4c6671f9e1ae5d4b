"""Other sizes of space: resizing, and moving blocks of space into channels and back."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product as pairs
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisMap,
    Emission,
    OpError,
    PerAxis,
    Primitive,
    Term,
    Types,
    describe,
    need_axes,
    register,
)
from archlang.primitives.interpolation import MODES, matrix
from archlang.primitives.sliding import (
    map_order,
    need_float,
    per_axis,
    slid,
    spell,
    spell_sizes,
    stacked,
    unstacked,
)
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, divide, floor, product


def _scale(value: Any) -> Any:
    if isinstance(value, AxisMap):
        return AxisMap(tuple((name, _scale(item)) for name, item in value.items))
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction) or value <= 0:
        raise ValueError(f"must be a positive number, and is {describe(value)}")
    return Fraction(value).limit_denominator(10**6) if isinstance(value, float) else value


Scale: TypeAlias = Annotated[Any, BeforeValidator(_scale)]  # an exact number for every axis, or an AxisMap of them


@register
class Resize(Primitive):
    """x sampled anew along each axis: `resize([h = 14, w = 14])`, or `resize(scale = 2)` on `on`, rounded down.

    Position o of the result lies at (o + 1/2) s / size - 1/2 of the s old ones, with `align_corners` at
    o (s - 1) / (size - 1). "nearest" takes the position at or before o s / size (as PyTorch), "nearest-exact" the
    nearest one, "linear" and "cubic" (Keys, a = -3/4) interpolate along each axis in turn, "area" averages as
    `adaptive_avg_pool`; "bilinear", "trilinear" and "bicubic" also say on how many axes. `antialias` widens the kernel
    by the factor of shrinking. `F.interpolate`.
    """

    name: ClassVar[str] = "resize"
    prefers: ClassVar[str | None] = "first"

    size: PerAxis | None = None
    scale: Scale | None = None
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "cubic", "bicubic", "area"] = "nearest"
    align_corners: bool = False
    antialias: bool = False
    on: Axes = ("space",)

    def factors(self, x: TensorType) -> dict[str, Any]:
        """The axes that are sampled anew, and the size or scale of each."""
        if (self.size is None) == (self.scale is None):
            raise OpError(
                "A301",
                "`resize` takes either `size` or `scale`",
                "size",
                help="`resize([h = 14, w = 14])` or `resize(scale = 2)`",
            )
        given, field = (self.scale, "scale") if self.size is None else (self.size, "size")
        on = tuple(name for name, _ in given.items) if isinstance(given, AxisMap) else self.on
        names = slid(on, x, self)
        return dict(zip(names, per_axis(given, names, field), strict=True))

    def sizes(self, x: TensorType) -> dict[str, Size]:
        factors = self.factors(x)
        return factors if self.scale is None else {name: floor(x.size(name) * scale) for name, scale in factors.items()}

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        sizes = self.sizes(x)
        allowed, antialiased = MODES[self.mode]
        if len(sizes) not in allowed:
            raise OpError(
                "A319",
                f'mode "{self.mode}" does not work on {len(sizes)} axes',
                "mode",
                help='"linear" works on any number',
            )
        if self.antialias and (len(sizes) != 2 or not antialiased or self.align_corners):
            advice = 'the mode is "linear" or "cubic", without `align_corners`'
            raise OpError("A319", "`antialias` works on two axes, linear or cubic", "antialias", help=advice)
        if self.align_corners and self.mode in ("nearest", "nearest-exact", "area"):
            raise OpError("A319", f'`align_corners` has no meaning in the mode "{self.mode}"', "align_corners")
        for name, size in sizes.items():
            if not facts.require(Condition("<=", 1, size), f"`resize` leaves something of `{name}`"):
                raise OpError("A319", f"the new size of `{name}` is {size}", "size" if self.scale is None else "scale")
        return x.resized(**sizes)

    def emit(self, code: Emission, x: Term) -> Term:
        factors = self.factors(code.inputs[0])
        planes, others = stacked(code, x, tuple(factors), most=2)
        lone = len(planes.order) == len(factors) + 1  # F.interpolate takes [b, c, ..]
        if lone:
            planes = Term(f"{planes.safe}.unsqueeze(1)", (planes.order[0], "plane", *planes.order[1:]))
        y = Term(
            f"F.interpolate({', '.join([planes.code, self._amount(code, factors), *self._options(len(factors))])})",
            planes.order,
        )
        return unstacked(code, code.split(y, "plane", ()) if lone else y, others)

    def _amount(self, code: Emission, factors: dict[str, Any]) -> str:
        if self.scale is not None and all(isinstance(scale, int) for scale in factors.values()):
            return f"scale_factor={spell(code, tuple(factors.values()))}"
        return f"size={spell_sizes(code, tuple(self.sizes(code.inputs[0]).values()))}"

    def _options(self, rank: int) -> list[str]:
        words = {"linear": ("linear", "bilinear", "trilinear")[rank - 1], "cubic": "bicubic"}
        mode = [] if self.mode == "nearest" else [f'mode="{words.get(self.mode, self.mode)}"']
        flags = (("align_corners", self.align_corners), ("antialias", self.antialias))
        return mode + [f"{name}=True" for name, flag in flags if flag]

    def memory(self, x: TensorType) -> Memory:
        """Weights are of places; means of areas ask for the values' sizes."""
        return Memory({"x": ""} if self.mode == "area" else {}, order=map_order(x, tuple(self.factors(x))))

    def reference(self, types: Types, x: Named) -> Named:
        sizes: dict[str, Any] = self.sizes(types.inputs[0])
        for name, size in sizes.items():
            rows = matrix(self.mode, x.size(name), size, self.align_corners, self.antialias, x.tensor)
            x = (Named(rows, ("new", name)) * x).sum((name,)).rename(new=name)
        return x

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(self.factors(x))

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        """Repeating each position a whole number of times does not."""
        repeats = self.mode == "nearest" and self.scale is not None
        return frozenset(name for name, scale in self.factors(x).items() if not (repeats and isinstance(scale, int)))

    def resumes(self, x: TensorType) -> bool:
        """A block of time is one step at its rate."""
        return self.looks_ahead(x).isdisjoint(x.of_role("time"))


class _Blocks(Primitive):
    """Blocks of `factor` positions along each axis of `on`, as channels: what four operations share."""

    channel_first: ClassVar[
        bool
    ]  # the old channel is the slowest part of the many, then the axes in order; else the fastest, axes reversed

    factor: PerAxis = 2
    on: Axes = ("space",)

    def factors(self, x: TensorType) -> dict[str, int]:
        need_axes(x, ("c",))
        names = slid(self.on, x, self)
        if "c" in names:
            raise OpError("A206", f"`{self.name}` is between `c` and the axes of `on`", "on")
        return dict(zip(names, per_axis(self.factor, names, "factor", 1), strict=True))

    def parts(self, names: Sequence[str]) -> tuple[str, ...]:
        """The parts of the many channels, the slowest first; `h'` is the position in the block along h."""
        offsets = [f"{name}'" for name in names]
        return ("c", *offsets) if self.channel_first else (*reversed(offsets), "c")

    def shuffles(self, factors: dict[str, int]) -> bool:
        """Whether PyTorch has a function for it."""
        return self.channel_first and len(factors) == 2 and len(set(factors.values())) == 1

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(("c", *self.factors(x)))

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        """Not along time: a block is one step at its rate."""
        return self.mixes(x) - frozenset(x.of_role("time"))

    def resumes(self, x: TensorType) -> bool:
        """A block of time is one step at its rate."""
        return self.looks_ahead(x).isdisjoint(x.of_role("time"))


class _ToDepth(_Blocks):
    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        factors = self.factors(x)
        for name, factor in factors.items():
            if not facts.divides(factor, x.size(name)):
                raise OpError("A204", f"{name} = {x.size(name)} is not a multiple of {factor}", "factor")
        sizes = {name: divide(x.size(name), factor) for name, factor in factors.items()}
        return x.resized(c=x.size("c") * product(factors.values()), **sizes)

    def emit(self, code: Emission, x: Term) -> Term:
        factors = self.factors(code.inputs[0])
        if self.shuffles(factors):
            x = code.last(x, ("c", *factors))
            return Term(f"F.pixel_unshuffle({x.code}, {code.const(next(iter(factors.values())))})", x.order)
        for name, factor in factors.items():
            x = code.split(x, name, (code.outputs[0][name], Axis(f"{name}'", factor, "free")))
        return code.flat(x, self.parts(tuple(factors)), "c")

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        factors, rest = self.factors(types.inputs[0]), tuple(name for name in x.names if name != "c")
        corners = {}
        for offsets in pairs(*(range(factor) for factor in factors.values())):
            corner = x
            for (name, factor), offset in zip(factors.items(), offsets, strict=True):
                corner = corner.select(name, slice(offset, None, factor))
            corners[offsets] = corner.to((*rest, "c"))
        if self.channel_first:
            return Named(torch.stack(list(corners.values()), -1).flatten(-2), (*rest, "c"))
        return Named(
            torch.cat([corners[offsets] for offsets in sorted(corners, key=lambda o: o[::-1])], -1), (*rest, "c")
        )


class _ToSpace(_Blocks):
    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        factors = self.factors(x)
        block = product(factors.values())
        if not facts.divides(block, x.size("c")):
            raise OpError("A204", f"c = {x.size('c')} is not a multiple of {block}", "factor")
        return x.resized(
            c=divide(x.size("c"), block), **{name: x.size(name) * factor for name, factor in factors.items()}
        )

    def emit(self, code: Emission, x: Term) -> Term:
        factors = self.factors(code.inputs[0])
        if self.shuffles(factors):
            x = code.last(x, ("c", *factors))
            return Term(f"F.pixel_shuffle({x.code}, {code.const(next(iter(factors.values())))})", x.order)
        sizes = {
            "c": code.outputs[0]["c"],
            **{f"{name}'": Axis(f"{name}'", factor, "free") for name, factor in factors.items()},
        }
        x = code.split(x, "c", [sizes[part] for part in self.parts(tuple(factors))])
        others = [name for name in x.order if name not in factors and name not in sizes]
        woven = [part for name in factors for part in (name, f"{name}'")]
        x = code.permute(x, (*others, *(("c", *woven) if self.channel_first else (*woven, "c"))))
        for name in factors:
            at = x.order.index(name)
            x = Term(f"{x.safe}.flatten({at}, {at + 1})", (*x.order[: at + 1], *x.order[at + 2 :]))
        return x

    def reference(self, types: Types, x: Named) -> Named:
        factors, out = self.factors(types.inputs[0]), types.outputs[0]
        rest = [name for name in x.names if name != "c" and name not in factors]
        order = (*rest, *factors, "c")
        y = x.tensor.new_zeros([*(x.size(name) for name in rest), *(out.size(name) for name in (*factors, "c"))])
        many, few = x.to(order), int(out.size("c"))  # type: ignore[arg-type]
        for block, offsets in enumerate(pairs(*(range(factor) for factor in factors.values()))):
            places = [slice(offset, None, factor) for offset, factor in zip(offsets, factors.values(), strict=True)]
            index = block
            if not self.channel_first:
                index = sum(
                    offset * factor_before
                    for offset, factor_before in zip(offsets, _strides(tuple(factors.values())), strict=True)
                )
            chosen = (
                slice(index, None, x.size("c") // few) if self.channel_first else slice(index * few, (index + 1) * few)
            )
            y[(..., *places, slice(None))] = many[..., chosen]
        return Named(y, order)


def _strides(factors: tuple[int, ...]) -> list[int]:
    """Of a block's positions, the first axis the fastest."""
    return [int(product(factors[:i])) for i in range(len(factors))]  # type: ignore[arg-type]


@register
class SpaceToDepth(_ToDepth):
    """Every block of `factor` positions along each axis of `on` becomes one position, its channels concatenated.

    The order is that of Swin's patch merging, corners [0, 0], [1, 0], [0, 1], [1, 1] of (h, w): c is the fastest part,
    then h, then w. `pixel_unshuffle` has PyTorch's order.
    """

    name: ClassVar[str] = "space_to_depth"
    saves: ClassVar[tuple[str, ...]] = ()
    channel_first: ClassVar[bool] = False


@register
class DepthToSpace(_ToSpace):
    """The inverse of `space_to_depth`: every position becomes a block; c is the fastest part of c, then h, then w."""

    name: ClassVar[str] = "depth_to_space"
    saves: ClassVar[tuple[str, ...]] = ()
    channel_first: ClassVar[bool] = False


@register
class PixelUnshuffle(_ToDepth):
    """Every block of positions becomes one; c is the slowest part of the new c, then h, then w: PyTorch's order."""

    name: ClassVar[str] = "pixel_unshuffle"
    saves: ClassVar[tuple[str, ...]] = ()
    prefers: ClassVar[str | None] = "first"
    channel_first: ClassVar[bool] = True


@register
class PixelShuffle(_ToSpace):
    """The inverse of `pixel_unshuffle`: c is the slowest part of c, then h, then w: PyTorch's order."""

    name: ClassVar[str] = "pixel_shuffle"
    saves: ClassVar[tuple[str, ...]] = ()
    prefers: ClassVar[str | None] = "first"
    channel_first: ClassVar[bool] = True
