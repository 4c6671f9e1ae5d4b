"""Reductions over named axes, which they drop, and cumulative forms, which keep them.

A reduction over a time axis sees the future, so its result may not meet that axis again. Cumulative forms are causal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Axes, Emission, Number, Primitive, Term, Types, axes_of, need_axes, register
from archlang.primitives.broadcast import dims, one_axis, refuse
from archlang.shapes import TensorType


class Reduction(Primitive):
    """y = f(x over the axes `on`). `form` is the PyTorch text, `{dims}` the positions of the axes."""

    form: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ("float", "complex")  # parts of the names of the dtypes
    gives: ClassVar[str] = ""  # the dtype of the result; that of x where empty
    saves: ClassVar[tuple[str, ...]] = ()
    together: ClassVar[bool] = True  # PyTorch takes several axes at once; else they are flattened first

    on: Axes

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, self.on)
        if not any(part in x.dtype for part in self.takes):
            raise refuse(
                x,
                f"`{self.name}` takes {' or '.join(self.takes)}",
                "`cast(x, float)`" if self.takes[0] == "float" else "compare first: `x > 0`",
            )
        return x.without(*axes_of(self.on, x)).cast(self.gives or x.dtype)

    def emit(self, code: Emission, x: Term) -> Term:
        on = axes_of(self.on, code.inputs[0])
        if len(on) > 1 and not self.together:
            x, on = code.flat(x, on, "on"), ("on",)
        return Term(self.write(code, x, dims(x, on)), tuple(name for name in x.order if name not in on))

    def write(self, code: Emission, x: Term, places: str) -> str:
        hypers = {name: code.const(getattr(self, name)) for name in type(self).model_fields if name != "on"}
        return self.form.format(x=x.safe if self.form.startswith("{x}") else x.code, dims=places, **hypers)

    def reference(self, types: Types, x: Named) -> Named:
        on = axes_of(self.on, types.inputs[0])
        kept = tuple(name for name in x.names if name not in on)
        return Named(self.value(x.to((*kept, *on)).flatten(len(kept))), kept)

    def value(self, x: Any) -> Any:
        """The function over the last axis of a torch tensor."""
        raise NotImplementedError

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))


_NUMBERS = ("float", "int", "complex")


@register
class Sum(Reduction):
    """The sum over `on`. Truth values are counted."""

    name: ClassVar[str] = "sum"
    form: ClassVar[str] = "{x}.sum({dims})"
    takes: ClassVar[tuple[str, ...]] = (*_NUMBERS, "bool")

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        made = super().infer(facts, x)
        return made.cast("int") if x.dtype == "bool" or "int" in x.dtype else made

    def value(self, x: Any) -> Any:
        return sum((x[..., i] for i in range(x.shape[-1])), start=x[..., 0] * 0)


@register
class Mean(Reduction):
    """The mean over `on`."""

    name: ClassVar[str] = "mean"
    form: ClassVar[str] = "{x}.mean({dims})"

    def value(self, x: Any) -> Any:
        return x.sum(-1) / x.shape[-1]


@register
class Max(Reduction):
    """The largest value over `on`; several equal ones share the gradient."""

    name: ClassVar[str] = "max"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "{x}.amax({dims})"
    takes: ClassVar[tuple[str, ...]] = ("float", "int")

    def value(self, x: Any) -> Any:
        return x.sort(-1).values[..., -1]


@register
class Min(Reduction):
    """The smallest value over `on`; several equal ones share the gradient."""

    name: ClassVar[str] = "min"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "{x}.amin({dims})"
    takes: ClassVar[tuple[str, ...]] = ("float", "int")

    def value(self, x: Any) -> Any:
        return x.sort(-1).values[..., 0]


@register
class Prod(Reduction):
    """The product over `on`."""

    name: ClassVar[str] = "prod"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "{x}.prod({dims})"
    together: ClassVar[bool] = False

    def value(self, x: Any) -> Any:
        result = x[..., 0]
        for i in range(1, x.shape[-1]):
            result = result * x[..., i]
        return result


@register
class Var(Reduction):
    """The mean over `on` of (x - mean)^2: of the values at hand, no estimate from a sample (`correction` is 0)."""

    name: ClassVar[str] = "var"
    saves: ClassVar[tuple[str, ...]] = ("x",)
    form: ClassVar[str] = "{x}.var({dims}, correction=0)"
    takes: ClassVar[tuple[str, ...]] = ("float",)

    def value(self, x: Any) -> Any:
        return ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1)


@register
class Std(Var):
    """The square root of `var`."""

    name: ClassVar[str] = "std"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "{x}.std({dims}, correction=0)"

    def value(self, x: Any) -> Any:
        return super().value(x) ** 0.5


@register
class LogSumExp(Reduction):
    """log of the sum over `on` of e^x."""

    name: ClassVar[str] = "logsumexp"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "{x}.logsumexp({dims})"
    takes: ClassVar[tuple[str, ...]] = ("float",)

    def value(self, x: Any) -> Any:
        return x.exp().sum(-1).log()


@register
class Norm(Reduction):
    """(sum over `on` of |x|^p)^(1 / p); `p = inf` is the largest |x|."""

    name: ClassVar[str] = "norm"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")
    form: ClassVar[str] = "torch.linalg.vector_norm({x}, {p}, {dims})"
    takes: ClassVar[tuple[str, ...]] = ("float",)

    p: Number = 2
    on: Axes

    def value(self, x: Any) -> Any:
        size = x * x.sign()
        return size.max(-1).values if self.p == float("inf") else (size**self.p).sum(-1) ** (1 / self.p)


@register
class Entropy(Reduction):
    """-sum over `on` of x log(x), in nats, of probabilities x; 0 log(0) = 0."""

    name: ClassVar[str] = "entropy"
    saves: ClassVar[tuple[str, ...]] = ("x",)
    form: ClassVar[str] = "torch.special.entr({x}).sum({dims})"
    takes: ClassVar[tuple[str, ...]] = ("float",)

    def value(self, x: Any) -> Any:
        return -(x * x.where(x > 0, x * 0 + 1).log()).sum(-1)


@register
class AllTrue(Reduction):
    """Whether all over `on` are true."""

    name: ClassVar[str] = "all"
    form: ClassVar[str] = "{x}.all({dims})"
    takes: ClassVar[tuple[str, ...]] = ("bool",)

    def value(self, x: Any) -> Any:
        return x.sum(-1) == x.shape[-1]


@register
class AnyTrue(Reduction):
    """Whether one over `on` is true."""

    name: ClassVar[str] = "any"
    form: ClassVar[str] = "{x}.any({dims})"
    takes: ClassVar[tuple[str, ...]] = ("bool",)

    def value(self, x: Any) -> Any:
        return x.sum(-1) > 0


class _Position(Reduction):
    """The position along one axis of an extreme value, the first where there are several."""

    takes: ClassVar[tuple[str, ...]] = ("float", "int")
    gives: ClassVar[str] = "int"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        one_axis(self.on, x)
        return super().infer(facts, x)

    def first(self, found: Any) -> Any:
        """The first position along the last axis where `found` is true."""
        import torch

        places = torch.arange(found.shape[-1], 0, -1, device=found.device)
        return found.shape[-1] - (found * places).max(-1).values


@register
class Argmax(_Position):
    """The position of the largest value along `on`, the first where there are several."""

    name: ClassVar[str] = "argmax"
    form: ClassVar[str] = "{x}.argmax({dims})"

    def value(self, x: Any) -> Any:
        return self.first(x == x.amax(-1, keepdim=True))


@register
class Argmin(_Position):
    """The position of the smallest value along `on`, the first where there are several."""

    name: ClassVar[str] = "argmin"
    form: ClassVar[str] = "{x}.argmin({dims})"

    def value(self, x: Any) -> Any:
        return self.first(x == x.amin(-1, keepdim=True))


# ---- cumulative
@register
class Cumsum(Primitive):
    """y[i] = sum of x[j], j <= i, along `on`. Causal on time."""

    name: ClassVar[str] = "cumsum"
    saves: ClassVar[tuple[str, ...]] = ()

    on: Axes

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        one_axis(self.on, x)
        if x.dtype == "bool":
            raise refuse(x, f"`{self.name}` takes numbers", "`cast(x, int)`")
        return x.cast("int") if "int" in x.dtype else x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{x.safe}.{self.name}({dims(x, [one_axis(self.on, code.inputs[0])])})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        axis = one_axis(self.on, types.inputs[0])
        rows = list(x.tensor.unbind(x.at(axis)))
        for i in range(1, len(rows)):
            rows[i] = self.joined(rows[i - 1], rows[i])
        return Named(_stack(rows, x.at(axis)), x.names)

    def state(self, x: TensorType) -> Mapping[str, TensorType]:
        axis = one_axis(self.on, x)
        return {"total": x.without(axis)} if x[axis].role == "time" else {}

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        y = state["total"].combine(x, self.joined) if state else x
        return y, {"total": y.select(one_axis(self.on, types.inputs[0]), 0)}

    def resume(self, code: Emission, x: Term) -> Term:
        """From the total of the positions before."""
        axis, type_ = one_axis(self.on, code.inputs[0]), code.inputs[0]
        if not self.state(type_):
            return self.emit(code, x)
        batch = type_.of_role("batch")
        x = code.permute(x, (*batch, *(name for name in x.order if name not in batch)))
        sizes = (type_.size(name) for name in x.order[1:] if name != axis)
        total = code.carried("total", "CarriedState", None, *sizes)
        return Term(f"{code.helper(f'resumed_{self.name}')}({x.code}, {x.at(axis)}, {total})", x.order)

    def joined(self, before: Any, here: Any) -> Any:
        """One more position."""
        return before + here

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return frozenset()


@register
class Cumprod(Cumsum):
    """y[i] = product of x[j], j <= i, along `on`. Causal on time."""

    name: ClassVar[str] = "cumprod"
    saves: ClassVar[tuple[str, ...]] = ("x", "y")

    def joined(self, before: Any, here: Any) -> Any:
        return before * here


def _stack(rows: Sequence[Any], place: int) -> Any:
    import torch

    return torch.stack(list(rows), place)
