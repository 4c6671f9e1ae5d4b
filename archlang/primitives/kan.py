"""Bases of univariate functions: each value becomes the values of several functions of it, on a new axis.

A linear map over channels and basis makes a Kolmogorov-Arnold layer of one (`kan` in the standard library).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Emission,
    Number,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    Whole,
    need_axes,
    register,
)
from archlang.primitives.broadcast import need_new
from archlang.primitives.sliding import need_float
from archlang.shapes import TensorType, axis
from archlang.sizes import Poly

TERM = "term"  # the axis of the functions


class Basis(Primitive):
    """y[.., k] = the function k of x[..], k < `count`, on the new axis `term`."""

    least: ClassVar[dict[str, int]] = {}  # the least value of each count among the fields

    @property
    def count(self) -> Any:
        """How many functions there are."""
        raise NotImplementedError

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_new(x, TERM, "x")
        for field, least in self.least.items():
            value = getattr(self, field)
            if isinstance(value, Poly):
                raise OpError("A309", f"`{field}` must be known when the network is compiled, and is {value}", field)
            if value < least:
                raise OpError("A319", f"`{field}` must be at least {least}, and is {value}", field)
        return replace(x, axes=(*x.axes, axis(TERM, self.count, "free")))

    def function(self, code: Emission, knots: Term | None = None) -> tuple[str, Sequence[str]]:
        """The function of PyTorch that makes all of x [.., c], and what it is given beside x."""
        raise NotImplementedError

    def emit(self, code: Emission, x: Term) -> Term:
        function, given = self.function(code)
        return Term(f"{function}({', '.join([x.code, *given])})", (*x.order, TERM))

    def stack(self, parts: list[Any], x: Named) -> Named:
        """The values of the functions side by side."""
        import torch

        return Named(torch.stack(parts, -1), (*x.names, TERM))


class Grid(Basis):
    """Bumps of one form around places from `low` to `high`."""

    least: ClassVar[dict[str, int]] = {"centers": 2}

    centers: Whole = 8
    low: Number = -2.0
    high: Number = 2.0

    @property
    def count(self) -> Any:
        return self.centers

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if self.low >= self.high:
            raise OpError(
                "A319", f"a grid runs from the lower to the higher, not from {self.low} to {self.high}", "low"
            )
        made = super().infer(facts, x)
        if self.spread <= 0:
            raise OpError("A319", f"`width` must be above 0, and is {self.spread}", "width")
        return made

    @property
    def spread(self) -> Any:
        """How wide a bump is."""
        raise NotImplementedError

    def function(self, code: Emission, knots: Term | None = None) -> tuple[str, Sequence[str]]:
        return code.helper(self.name), [*map(code.const, (self.centers, self.low, self.high, self.spread))]

    def reference(self, types: Types, x: Named) -> Named:
        places = [self.low + k * (self.high - self.low) / (self.centers - 1) for k in range(self.centers)]
        return self.stack([self.bump((x.tensor - place) / self.spread) for place in places], x)

    def bump(self, distance: Any) -> Any:
        """The function around 0."""
        raise NotImplementedError


@register
class Rbf(Grid):
    """y[.., k] = e^-((x - g_k) / width)^2, g_k the `centers` places from `low` to `high`.

    `width` is the distance of neighbours unless given. Gaussian radial basis functions, as in FastKAN (Li, 2024,
    arXiv:2405.06721), which normalises x before.
    """

    name: ClassVar[str] = "rbf"

    width: Number | None = None

    @property
    def spread(self) -> Any:
        return (self.high - self.low) / (self.centers - 1) if self.width is None else self.width

    def memory(self, x: TensorType) -> Memory:
        """The distances; the gradient of their square makes them again, and twice as large."""
        many = x.bytes * self.count
        return Memory(output=True, kept=many, work=many, back=many * 2)

    def bump(self, distance: Any) -> Any:
        return (-(distance**2)).exp()


@register
class Rswaf(Grid):
    """y[.., k] = 1 - tanh^2((x - g_k) / width), g_k the `centers` places from `low` to `high`.

    Reflectional switch functions, as in FasterKAN (Delis, 2024) and MedViTV2 (Manzari et al., 2025, arXiv:2502.13693),
    which normalise x before.
    """

    name: ClassVar[str] = "rswaf"

    width: Number = 0.33

    @property
    def spread(self) -> Any:
        return self.width

    def memory(self, x: TensorType) -> Memory:
        """The tangent."""
        return Memory(kept=x.bytes * self.count, work=x.bytes * self.count, back=x.bytes * self.count)

    def bump(self, distance: Any) -> Any:
        return distance.cosh() ** -2


@register
class Chebyshev(Basis):
    """y[.., k] = T_k(x), k from 0 to `degree`: T_0 = 1, T_1 = x, T_k = 2 x T_{k-1} - T_{k-2}.

    |T_k| <= 1 for |x| <= 1, and grows as x^k outside: `tanh -> chebyshev(4)` stays inside, as in Chebyshev KAN
    (Sidharth et al., 2024, arXiv:2405.07200).
    """

    name: ClassVar[str] = "chebyshev"
    least: ClassVar[dict[str, int]] = {"degree": 1}

    degree: Whole = 4

    @property
    def count(self) -> Any:
        return self.degree + 1

    def function(self, code: Emission, knots: Term | None = None) -> tuple[str, Sequence[str]]:
        return code.helper("chebyshev"), [code.const(self.degree)]

    def memory(self, x: TensorType) -> Memory:
        """2 x each time, and the polynomials so far."""
        return Memory({"x": ""}, kept=x.bytes * (2 * self.degree - 3)) if self.degree > 1 else Memory(work=x.bytes)

    def reference(self, types: Types, x: Named) -> Named:
        import numpy.polynomial.chebyshev as series

        parts = []
        for k in range(self.degree + 1):
            powers = series.cheb2poly([0.0] * k + [1.0])
            parts.append(sum(coefficient * x.tensor**i for i, coefficient in enumerate(powers)))
        return self.stack(parts, x)


@register
class Fourier(Basis):
    """y[.., k] = cos((k + 1) x) for k < `waves`, then sin((k + 1) x): the waves of a Fourier series without its mean.

    As in Fourier KAN (Xu et al., 2024, arXiv:2406.01034).
    """

    name: ClassVar[str] = "fourier"
    least: ClassVar[dict[str, int]] = {"waves": 1}

    waves: Whole

    @property
    def count(self) -> Any:
        return 2 * self.waves

    def function(self, code: Emission, knots: Term | None = None) -> tuple[str, Sequence[str]]:
        return code.helper("fourier"), [code.const(self.waves)]

    def memory(self, x: TensorType) -> Memory:
        """The angles."""
        return Memory(kept=x.bytes * self.waves + self.waves * 8, work=x.bytes * self.waves)

    def reference(self, types: Types, x: Named) -> Named:
        angles = [(k + 1) * x.tensor for k in range(self.waves)]
        return self.stack([*(angle.cos() for angle in angles), *(angle.sin() for angle in angles)], x)


@register
class BSpline(Basis):
    """y[.., k] = B_k(x), the B-splines of degree `order` on a grid of `grid` intervals from `low` to `high`.

    Cox and de Boor: of degree 0, B_k is 1 on [g_k, g_k+1) and 0 elsewhere; of degree d,
    B_k = (x - g_k) / (g_k+d - g_k) B_k + (g_k+d+1 - x) / (g_k+d+1 - g_k+1) B_k+1 of those of degree d - 1. There are
    grid + order functions; they sum to 1 from `low` to `high`. Every channel has a grid (buffer: [c, knots]), which
    `move_grid` of the emitted module lays anew around data (Liu et al., KAN, ICLR 2025, arXiv:2404.19756).
    """

    name: ClassVar[str] = "bspline"
    prefers: ClassVar[str | None] = "last"
    least: ClassVar[dict[str, int]] = {"grid": 1, "order": 0}

    grid: Whole = 5
    order: Whole = 3
    low: Number = -1.0
    high: Number = 1.0

    @property
    def count(self) -> Any:
        return self.grid + self.order

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c",))
        if self.low >= self.high:
            raise OpError(
                "A319", f"a grid runs from the lower to the higher, not from {self.low} to {self.high}", "low"
            )
        return super().infer(facts, x)

    def params(self, x: TensorType) -> dict[str, Param]:
        knots = self.grid + 2 * self.order + 1
        return {"grid": Param((x.size("c"), knots), ("c", "knots"), buffer=True, ascending=True)}

    def function(self, code: Emission, knots: Term | None = None) -> tuple[str, Sequence[str]]:
        assert knots is not None
        return code.helper("cox_de_boor"), [knots.code, code.const(self.order)]

    def emit(self, code: Emission, x: Term) -> Term:
        fields = {"grid": 5, "order": 3, "low": -1.0, "high": 1.0}
        changed = {name: code.const(getattr(self, name)) for name, usual in fields.items()}
        changed = {name: text for name, text in changed.items() if getattr(self, name) != fields[name]}
        x = code.last(x, ("c",))
        module = code.module("BSpline", code.size(code.inputs[0].size("c")), **changed)
        return Term(f"{module}({x.code})", (*x.order, TERM))

    def memory(self, x: TensorType) -> Memory:
        """The splines of every degree, from the second on the ramps too, and the widths of intervals."""
        degrees, knots = range(1, self.order + 1), self.grid + 2 * self.order + 1
        kept = sum(knots - d + (2 * (knots - 1 - d) if d > 1 else 0) for d in degrees)
        widths = sum(2 * (knots - 1 - d) for d in degrees)
        each = x.bytes * (knots - 1)
        return Memory(
            kept=x.bytes * kept + x.without(*(n for n in x.names if n != "c")).bytes * widths,
            work=each * 5,
            back=each * 2,
        )

    def reference(self, types: Types, x: Named, grid: Any) -> Named:
        def splines(k: int, degree: int) -> Named:
            first, last = (Named(grid[:, k + i], ("c",)) for i in (0, degree + 1))
            if degree == 0:
                inside = x.combine(first, lambda a, b: a >= b).combine(x.combine(last, lambda a, b: a < b), _both)
                return inside.map(lambda value: value.to(x.tensor.dtype))
            rise = (x - first) / (Named(grid[:, k + degree], ("c",)) - first)
            fall = (last - x) / (last - Named(grid[:, k + 1], ("c",)))
            return rise * splines(k, degree - 1) + fall * splines(k + 1, degree - 1)

        return self.stack([splines(k, self.order).to(x.names) for k in range(self.count)], x)


def _both(a: Any, b: Any) -> Any:
    return a & b
