"""Normalisations. Which positions share their statistics is all that sets them apart."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisName,
    Emission,
    Number,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.sliding import map_order, need_float, per_axis, present, slid, stacked, unstacked
from archlang.shapes import ROLES, TensorType
from archlang.sizes import Size, product


def _small(value: Any) -> Any:
    if not 0 <= value < 1:
        raise ValueError(f"must be from 0 to below 1, and is {value}; the axes of a norm are given by name, `on = c`")
    return value


Epsilon: TypeAlias = Annotated[Number, AfterValidator(_small)]  # what keeps a division from 0


def affine_params(sizes: Sequence[Size], names: Sequence[str], *leaves: str) -> dict[str, Param]:
    return {leaf: Param(tuple(sizes), tuple(names)) for leaf in leaves}


def epsilon(code: Emission, value: Any, usual: float | None = None) -> dict[str, str]:
    return {} if value == usual else {"eps": code.const(value)}


def _standard(x: Named, on: Sequence[str], eps: float) -> Named:
    """(x - mean) / sqrt(variance + eps), statistics over `on`; the variance is that of the population."""
    centred = x - x.mean(on)
    return centred / (centred * centred).mean(on).map(lambda variance: (variance + eps).sqrt())


def _scaled(x: Named, names: Sequence[str], weight: Any, bias: Any) -> Named:
    x = x if weight is None else x * Named(weight, tuple(names))
    return x if bias is None else x + Named(bias, tuple(names))


@register
class LayerNorm(Primitive):
    """y = (x - mean) / sqrt(var + eps) * weight + bias; statistics (population variance) over `on`, the weights' shape.

    Ba et al. 2016, arXiv:1607.06450; `torch.nn.LayerNorm`. Nothing but `on` is mixed, so it is causal.
    """

    name: ClassVar[str] = "layer_norm"
    prefers: ClassVar[str | None] = "last"

    eps: Epsilon = 1e-5
    affine: bool = True
    bias: bool = True
    on: Axes = ("c",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        present(self.on, x, self)
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        on = present(self.on, x, self)
        leaves = ("weight", "bias") if self.bias else ("weight",)
        return affine_params([x.size(name) for name in on], on, *leaves) if self.affine else {}

    def emit(self, code: Emission, x: Term) -> Term:
        on = present(self.on, code.inputs[0], self)
        return _normalised(
            code, x, on, "LayerNorm", epsilon(code, self.eps, 1e-5), self.affine, {} if self.bias else {"bias": "False"}
        )

    def memory(self, x: TensorType) -> Memory:
        """A mean and a deviation for each position."""
        on = present(self.on, x, self)
        return Memory({"x": ""}, kept=x.without(*on).bytes * 2, **_in_place(x, on))

    def reference(self, types: Types, x: Named, weight: Any = None, bias: Any = None) -> Named:
        on = present(self.on, types.inputs[0], self)
        return _scaled(_standard(x, on, self.eps), on, weight, bias)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(present(self.on, x, self))


def _in_place(x: TensorType, on: Sequence[str]) -> dict[str, Any]:
    """What is not contiguous in the axes `on` is copied each time."""
    order = (*(name for name in x.names if name not in on), *on)
    copy = 0 if x.names == order else x.bytes
    return {"work": copy, "back": copy, "order": order}


def _normalised(
    code: Emission, x: Term, on: Sequence[str], module: str, eps: dict[str, str], affine: bool, more: dict[str, str]
) -> Term:
    """`nn.LayerNorm` or `nn.RMSNorm` over the last axes, or its function where there are no weights."""
    x = code.last(x, on)
    sizes = [code.size(code.inputs[0].size(name)) for name in on]
    if affine:
        shape = sizes[0] if len(on) == 1 else f"({', '.join(sizes)})"
        return Term(f"{code.module(f'nn.{module}', shape, **eps, **more)}({x.code})", x.order)
    function = {"LayerNorm": "layer_norm", "RMSNorm": "rms_norm"}[module]
    shape = f"({sizes[0]},)" if len(on) == 1 else f"({', '.join(sizes)})"
    return Term(
        f"F.{function}({', '.join([x.code, shape, *(f'{name}={value}' for name, value in eps.items())])})", x.order
    )


@register
class RMSNorm(Primitive):
    """y = x / sqrt(mean(x ** 2) + eps) * weight; the mean over `on` at each position, the weight of the shape of `on`.

    Zhang and Sennrich 2019, arXiv:1910.07467; `torch.nn.RMSNorm`. Causal.
    """

    name: ClassVar[str] = "rms_norm"
    prefers: ClassVar[str | None] = "last"

    eps: Epsilon = 1e-6
    affine: bool = True
    on: Axes = ("c",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        present(self.on, x, self)
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        on = present(self.on, x, self)
        return affine_params([x.size(name) for name in on], on, "weight") if self.affine else {}

    def emit(self, code: Emission, x: Term) -> Term:
        on = present(self.on, code.inputs[0], self)
        return _normalised(code, x, on, "RMSNorm", epsilon(code, self.eps), self.affine, {})

    def memory(self, x: TensorType) -> Memory:
        """The deviation of each position and, where there is a weight, the values that it multiplies."""
        on = present(self.on, x, self)
        scaled = x.bytes if self.affine else 0
        return Memory({"x": ""}, kept=scaled + x.without(*on).bytes, work=x.bytes, back=x.bytes * 2)

    def reference(self, types: Types, x: Named, weight: Any = None) -> Named:
        on = present(self.on, types.inputs[0], self)
        return _scaled(x / (x * x).mean(on).map(lambda square: (square + self.eps).sqrt()), on, weight, None)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(present(self.on, x, self))


@register
class BatchNorm(Primitive):
    """y = (x - mean) / sqrt(var + eps) * weight + bias for each channel of the axis `on`.

    In training, mean and population variance are over all other axes, b among them, and running_mean and running_var
    (that unbiased) move towards them by `momentum`; in evaluation these are used instead and nothing is mixed. All of
    time is seen in training only, never in a network that runs: time is mixed, yet not looked ahead along.
    Ioffe and Szegedy 2015, arXiv:1502.03167; `torch.nn.BatchNormNd`, with its buffers.
    """

    name: ClassVar[str] = "batch_norm"
    prefers: ClassVar[str | None] = "first"

    eps: Epsilon = 1e-5
    momentum: Number = 0.1
    affine: bool = True
    on: AxisName = "c"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_axes(x, (self.on,))
        if len(x.axes) == 1:
            raise OpError("A205", f"`batch_norm` has no axis but `{self.on}` to take statistics over", "x")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        shape, names = (x.size(self.on),), (self.on,)
        running = {leaf: Param(shape, names, buffer=True) for leaf in ("running_mean", "running_var")}
        count = {"num_batches_tracked": Param((), (), buffer=True, dtype="int64")}
        return {**(affine_params(shape, names, "weight", "bias") if self.affine else {}), **running, **count}

    def emit(self, code: Emission, x: Term) -> Term:
        """`nn.BatchNorm1d` takes [b, c] and [b, c, l], the others an axis more each; which is which does not matter."""
        others = [name for name in x.order if name != self.on]
        if len(others) > 4:
            x, spread = stacked(code, x, (*others[-3:], self.on))
            others = [x.order[0], *others[-3:]]
        else:
            spread = ()
        x = code.permute(x, (others[0], self.on, *others[1:]))
        named = epsilon(code, self.eps, 1e-5) | (
            {} if self.momentum == 0.1 else {"momentum": code.const(self.momentum)}
        )
        affine = {} if self.affine else {"affine": "False"}
        norm = code.module(
            f"nn.BatchNorm{max(len(others) - 1, 1)}d", code.size(code.inputs[0].size(self.on)), **named, **affine
        )
        return unstacked(code, Term(f"{norm}({x.code})", x.order), spread)

    def reference(
        self,
        types: Types,
        x: Named,
        running_mean: Any,
        running_var: Any,
        weight: Any = None,
        bias: Any = None,
        **count: Any,
    ) -> Named:
        """That of evaluation."""
        scale = (running_var + self.eps).sqrt()
        return _scaled((x - Named(running_mean, (self.on,))) / Named(scale, (self.on,)), (self.on,), weight, bias)

    def memory(self, x: TensorType) -> Memory:
        """A mean and a deviation for each channel."""
        over = [name for name in x.names[1:] if name != self.on]
        each = x.without(*(name for name in x.names if name != self.on)).bytes
        return Memory({"x": ""}, kept=each * 2, back=x.bytes, order=map_order(x, over, self.on))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(x.names) - {self.on}

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return self.mixes(x) - frozenset(x.of_role("time"))


@register
class GroupNorm(Primitive):
    """y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c]; statistics over a group of channels and `on`.

    `on` is all space and time axes unless given. Statistics over time look ahead: on a sequence, `on = []` takes them
    at each position alone.
    Wu and He 2018, arXiv:1803.08494; `torch.nn.GroupNorm`.
    """

    name: ClassVar[str] = "group_norm"
    prefers: ClassVar[str | None] = "first"

    groups: Whole
    eps: Epsilon = 1e-5
    affine: bool = True
    on: Axes = ("space", "time")

    def over(self, x: TensorType) -> tuple[str, ...]:
        """The axes that share statistics beside the channels of a group; there may be none."""
        need_axes(x, [name for name in self.on if name not in ROLES])
        if "c" in axes_of(self.on, x):
            raise OpError("A206", f"`{self.name}` always runs over the channels of a group", "on")
        return present(self.on, x, self) if axes_of(self.on, x) else ()

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_axes(x, ("c",))
        self.over(x)
        per_axis(self.groups, ("c",), "groups", 1)
        if not facts.divides(self.groups, x.size("c")):
            raise OpError("A204", f"c = {x.size('c')} is not a multiple of {self.groups} groups", "groups")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        return affine_params((x.size("c"),), ("c",), "weight", "bias") if self.affine else {}

    def emit(self, code: Emission, x: Term) -> Term:
        images, others = stacked(code, x, ("c", *self.over(code.inputs[0])))
        eps = epsilon(code, self.eps, 1e-5)
        if self.affine:
            c = code.size(code.inputs[0].size("c"))
            y = f"{code.module('nn.GroupNorm', code.const(self.groups), c, **eps)}({images.code})"
        else:
            more = "".join(f", {name}={value}" for name, value in eps.items())
            y = f"F.group_norm({images.code}, {code.const(self.groups)}{more})"
        return unstacked(code, Term(y, images.order), others)

    def reference(self, types: Types, x: Named, weight: Any = None, bias: Any = None) -> Named:
        kept = [name for name in x.names if name != "c"]
        parts = Named(x.to((*kept, "c")).unflatten(-1, (self.groups, -1)), (*kept, "part", "c"))
        y = _standard(parts, ("c", *self.over(types.inputs[0])), self.eps)
        return _scaled(Named(y.to((*kept, "part", "c")).flatten(-2), (*kept, "c")), ("c",), weight, bias)

    def memory(self, x: TensorType) -> Memory:
        """A mean and a deviation for each group."""
        over = self.over(x)
        kept, order = x.without("c", *over).bytes * self.groups * 2, map_order(x, over)
        if order == x.names:
            return Memory({"x": ""}, kept=kept, order=order)
        return Memory(kept=kept + x.bytes, back=x.bytes, order=order)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(("c", *self.over(x)))


@register
class InstanceNorm(Primitive):
    """y = (x - mean) / sqrt(var + eps), affine: * weight[c] + bias[c]; statistics over `on`, all space and time axes.

    Ulyanov et al. 2016, arXiv:1607.08022; `torch.nn.InstanceNormNd` (without running statistics).
    """

    name: ClassVar[str] = "instance_norm"
    prefers: ClassVar[str | None] = "first"

    eps: Epsilon = 1e-5
    affine: bool = False
    on: Axes = ("space", "time")

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_axes(x, ("c",))
        on = slid(self.on, x, self)
        if "c" in on:
            raise OpError("A206", "`instance_norm` keeps the channels apart", "on")
        positions = product(x.size(name) for name in on)
        if not facts.require(Condition("<=", 2, positions), "`instance_norm` over one position is 0"):
            raise OpError("A204", f"`instance_norm` over {', '.join(on)} of size {positions} would be 0", "x")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        return affine_params((x.size("c"),), ("c",), "weight", "bias") if self.affine else {}

    def emit(self, code: Emission, x: Term) -> Term:
        on = slid(self.on, code.inputs[0], self)
        images, others = stacked(code, x, ("c", *on))
        eps = epsilon(code, self.eps, 1e-5)
        if self.affine:
            norm = code.module(f"nn.InstanceNorm{len(on)}d", code.size(code.inputs[0].size("c")), **eps, affine="True")
            return unstacked(code, Term(f"{norm}({images.code})", images.order), others)
        call = ", ".join([images.code, *(f"{name}={value}" for name, value in eps.items())])
        return unstacked(code, Term(f"F.instance_norm({call})", images.order), others)

    def memory(self, x: TensorType) -> Memory:
        """A mean and a deviation for each channel of each map, and a weight where there is one."""
        on = slid(self.on, x, self)
        order = (*(name for name in x.names if name not in ("c", *on)), "c", *on)
        kept = x.without(*on).bytes * (3 if self.affine else 2)
        if x.names == order:
            return Memory({"x": ""}, kept=kept, order=order)
        return Memory(kept=kept + x.bytes, back=x.bytes, order=order)

    def reference(self, types: Types, x: Named, weight: Any = None, bias: Any = None) -> Named:
        return _scaled(_standard(x, slid(self.on, types.inputs[0], self), self.eps), ("c",), weight, bias)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(slid(self.on, x, self))
