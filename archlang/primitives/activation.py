"""Activations: elementwise functions with the forms that published networks use, gates, and softmax over named axes."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Number,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.broadcast import derive, dims, one_axis, refuse
from archlang.primitives.elementwise import Plain, Unary
from archlang.shapes import TensorType
from archlang.sizes import Size, divide


def _not_0(value: Any) -> Any:
    if value == 0:
        raise ValueError("must not be 0")
    return value


def _define(name: str, law: str, form: str, meaning: Callable[[Any], Any], saves: str = "x", between: int = 0) -> None:
    """An activation from its name, its law, its PyTorch form, its meaning, and what its slope follows from."""
    space = {"__doc__": law, "form": form, "saves": tuple(saves), "between": between}
    space |= {"meaning": staticmethod(meaning)}
    derive(name, Plain, space)


def _relu(x: Any) -> Any:
    return x * (x > 0)


def _clip(x: Any, low: float, high: float) -> Any:
    return low + _relu(x - low) - _relu(x - high)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def _tanh(x: Any) -> Any:
    x = x.clamp(-40, 40)  # beyond, e^x is all there is, and soon infinite
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def _selu(x: Any) -> Any:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * (_relu(x) + alpha * ((x - _relu(x)).exp() - 1))


_define("relu", "max(x, 0).", "F.relu({x})", _relu, "y")
_define("relu6", "min(max(x, 0), 6) (Howard et al., 2017).", "F.relu6({x})", lambda x: _clip(x, 0, 6))
_define("sigmoid", "1 / (1 + e^-x).", "torch.sigmoid({x})", _sigmoid, "y")
_define("tanh", "(e^x - e^-x) / (e^x + e^-x).", "torch.tanh({x})", _tanh, "y")
_define("silu", "x sigmoid(x) (Elfwing et al., 2017).", "F.silu({x})", lambda x: x * _sigmoid(x))
_define(
    "swish",
    "x sigmoid(x): another name of `silu` (Ramachandran et al., 2017).",
    "F.silu({x})",
    lambda x: x * _sigmoid(x),
)
_define(
    "gelu",
    "x Phi(x), Phi the normal distribution (Hendrycks and Gimpel, 2016).",
    "F.gelu({x})",
    lambda x: x * (1 + (x / 2**0.5).erf()) / 2,
)
_define(
    "gelu_tanh",
    "x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): `gelu` to about 1e-3.",
    'F.gelu({x}, approximate="tanh")',
    lambda x: x / 2 * (1 + _tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
)  # fmt: skip
_define(
    "quick_gelu",
    "x sigmoid(1.702 x): `gelu` to about 1e-2.",
    "{x} * torch.sigmoid(1.702 * {x})",
    lambda x: x * _sigmoid(1.702 * x),
    between=1,
)
_define("selu", "scale (max(x, 0) + min(alpha (e^x - 1), 0)) (Klambauer et al., 2017).", "F.selu({x})", _selu)
_define("mish", "x tanh(softplus(x)) (Misra, 2019).", "F.mish({x})", lambda x: x * _tanh((1 + x.exp()).log()))
_define("softsign", "x / (1 + |x|).", "F.softsign({x})", lambda x: x / (1 + x * x.sign()), between=1)
_define("hard_sigmoid", "min(max(x / 6 + 1 / 2, 0), 1).", "F.hardsigmoid({x})", lambda x: _clip(x / 6 + 0.5, 0, 1))
_define(
    "hard_swish",
    "x min(max(x / 6 + 1 / 2, 0), 1) (Howard et al., 2019).",
    "F.hardswish({x})",
    lambda x: x * _clip(x / 6 + 0.5, 0, 1),
)
_define("hard_tanh", "min(max(x, -1), 1).", "F.hardtanh({x})", lambda x: _clip(x, -1, 1))


@register
class LeakyRelu(Unary):
    """x where x > 0, else slope x (Maas et al., 2013)."""

    name: ClassVar[str] = "leaky_relu"
    form: ClassVar[str] = "F.leaky_relu({x})"

    slope: Number = 0.01

    def value(self, x: Any) -> Any:
        return _relu(x) + self.slope * (x - _relu(x))


@register
class Elu(Unary):
    """x where x > 0, else alpha (e^x - 1) (Clevert et al., 2015)."""

    name: ClassVar[str] = "elu"
    form: ClassVar[str] = "F.elu({x})"

    alpha: Number = 1.0

    def value(self, x: Any) -> Any:
        return _relu(x) + self.alpha * ((x - _relu(x)).exp() - 1)


@register
class Celu(Unary):
    """x where x > 0, else alpha (e^(x / alpha) - 1) (Barron, 2017)."""

    name: ClassVar[str] = "celu"
    form: ClassVar[str] = "F.celu({x})"

    alpha: Annotated[Number, AfterValidator(_not_0)] = 1.0

    def value(self, x: Any) -> Any:
        return _relu(x) + self.alpha * (((x - _relu(x)) / self.alpha).exp() - 1)


@register
class Softplus(Unary):
    """log(1 + e^(beta x)) / beta; x itself where beta x > 20, as PyTorch."""

    name: ClassVar[str] = "softplus"
    form: ClassVar[str] = "F.softplus({x})"

    beta: Annotated[Number, AfterValidator(_not_0)] = 1.0

    def value(self, x: Any) -> Any:
        near = self.beta * x <= 20
        return x.where(~near, (1 + (self.beta * x * near).exp()).log() / self.beta)


@register
class Prelu(Primitive):
    """x where x > 0, else weight x (He et al., 2015). Weight: [1], or `per_channel` one for each position of `on`."""

    name: ClassVar[str] = "prelu"

    per_channel: bool = False
    on: Axes = ("c",)
    init: Number = 0.25

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if "float" not in x.dtype:
            raise refuse(x, "`prelu` takes a `float`")
        if self.per_channel:
            one_axis(self.on, x)
        return x

    def count(self, x: TensorType) -> Size:
        """The number of slopes."""
        return x.size(one_axis(self.on, x)) if self.per_channel else 1

    def params(self, x: TensorType) -> dict[str, Param]:
        return {"weight": Param((self.count(x),), (one_axis(self.on, x) if self.per_channel else "one",))}

    def emit(self, code: Emission, x: Term) -> Term:
        initial = {} if self.init == 0.25 else {"init": code.const(self.init)}
        module = code.module("nn.PReLU", code.size(self.count(code.inputs[0])), **initial)
        if not self.per_channel:
            return Term(f"{module}({x.code})", x.order)
        # PyTorch's module takes the channels as the second axis; its weight broadcasts from the end just as well
        axis, bound = one_axis(self.on, code.inputs[0]), code.bind(x, "x")
        _, slope = code.align(bound, Term(code.weight("weight"), (axis,)))
        return Term(f"torch.where({bound.code} > 0, {bound.code}, {slope.code} * {bound.code})", bound.order)

    def memory(self, x: TensorType) -> Memory:
        if not self.per_channel:
            return super().memory(x)
        return Memory({"x": ""}, kept=x.cast("bool").bytes, work=x.bytes, back=x.bytes)

    def reference(self, types: Types, x: Named, weight: Any = None) -> Named:
        slope = Named(weight, (one_axis(self.on, types.inputs[0]),)) if self.per_channel else Named(weight[0], ())
        return x.map(_relu) + x.map(lambda value: value - _relu(value)) * slope


# ---- over axes
@register
class Softmax(Primitive):
    """e^x / sum of e^x over the axes `on`, together."""

    name: ClassVar[str] = "softmax"
    saves: ClassVar[tuple[str, ...]] = ("y",)

    on: Axes

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, self.on)
        if "float" not in x.dtype:
            raise refuse(x, f"`{self.name}` takes a `float`", "`cast(x, float)`")
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        on = axes_of(self.on, code.inputs[0])
        if len(on) == 1:
            return Term(f"{x.safe}.{self.name}({dims(x, on)})", x.order)
        flat = code.flat(x, on, "on")
        return code.split(Term(f"{flat.safe}.{self.name}(-1)", flat.order), "on", [code.inputs[0][name] for name in on])

    def reference(self, types: Types, x: Named) -> Named:
        powers = x.map(lambda value: value.exp())
        return powers / powers.sum(axes_of(self.on, types.inputs[0]))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))


@register
class LogSoftmax(Softmax):
    """x - log(sum of e^x) over the axes `on`, together."""

    name: ClassVar[str] = "log_softmax"

    def reference(self, types: Types, x: Named) -> Named:
        return x - x.map(lambda value: value.exp()).sum(axes_of(self.on, types.inputs[0])).map(
            lambda value: value.log()
        )


@register
class Glu(Primitive):
    """a sigmoid(b), where a and b are the halves of x along `on` (Dauphin et al., 2016)."""

    name: ClassVar[str] = "glu"

    on: Axes = ("c",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        axis = one_axis(self.on, x)
        if "float" not in x.dtype:
            raise refuse(x, "`glu` takes a `float`")
        if not facts.divides(2, x.size(axis)):
            raise OpError("A207", f"`glu` halves the axis `{axis}`, whose size {x.size(axis)} is odd", "x")
        return x.resized(**{axis: divide(x.size(axis), 2)})

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"F.glu({x.code}, {dims(x, [one_axis(self.on, code.inputs[0])])})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        axis = one_axis(self.on, types.inputs[0])
        half = x.size(axis) // 2
        return x.select(axis, slice(half)) * x.select(axis, slice(half, None)).map(_sigmoid)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))
