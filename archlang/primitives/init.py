"""How weights start: values of kind `init`, written as expressions in torch.

Arithmetic on them makes others: `ones * 1e-6`, `log(uniform(1, 16))`.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator

from archlang.primitive import AxisName, Construct, Number, OpError, Whole, describe, register
from archlang.sizes import Size

Write: TypeAlias = Callable[[Any], str]  # how a number is written: itself, or an argument where modules differ in it


class Init(Construct):
    """A tensor of a given shape to start from. `form` is the text: `{shape}` that of the shape, and hyper-parameters
    stand in it by name.

    A form that fills a tensor in place has `{tensor}` instead of `{shape}`.
    """

    kind: ClassVar[str] = "init"
    form: ClassVar[str] = ""
    least: ClassVar[int] = 0  # the number of axes that it needs
    product: ClassVar[bool] = False  # the text is one: it stands in parentheses inside arithmetic

    def check(self, axes: Mapping[str, Size]) -> None:
        """Refuse a weight, given by its axes, that cannot start like this."""
        if len(axes) < self.least:
            raise OpError(
                "A319",
                f"`{self.name}` starts weights of at least {self.least} axes",
                "init",
                "`normal(0.02)` starts any",
            )

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        """An expression for a new tensor. `shape` is the text of a tuple, `names` are the axes."""
        if "{tensor}" in self.form:
            return self.fill(f"torch.empty({shape})", const)
        return self.form.format(shape=shape, **self._numbers(const))

    def fill(self, tensor: str, const: Write = repr) -> str:
        """A statement that fills a tensor in place; empty where only `code` serves."""
        return self.form.format(tensor=tensor, **self._numbers(const)) if "{tensor}" in self.form else ""

    def _numbers(self, const: Write) -> dict[str, str]:
        return {name: const(getattr(self, name)) for name in type(self).model_fields}


# ---- constants
@register
class Zeros(Init):
    """0 everywhere."""

    name: ClassVar[str] = "zeros"
    form: ClassVar[str] = "nn.init.zeros_({tensor})"

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        return f"torch.zeros({shape})"


@register
class Ones(Init):
    """1 everywhere."""

    name: ClassVar[str] = "ones"
    form: ClassVar[str] = "nn.init.ones_({tensor})"

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        return f"torch.ones({shape})"


@register
class Constant(Init):
    """One number everywhere."""

    name: ClassVar[str] = "constant"
    form: ClassVar[str] = "nn.init.constant_({tensor}, {value})"

    value: Number

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        return f"torch.full({shape}, {const(float(self.value))})"


@register
class Eye(Init):
    """1 where the positions of the two axes are equal, else 0."""

    name: ClassVar[str] = "eye"
    form: ClassVar[str] = "nn.init.eye_({tensor})"
    least: ClassVar[int] = 2

    def check(self, axes: Mapping[str, Size]) -> None:
        if len(axes) != 2:
            raise OpError("A319", f"`eye` starts weights of two axes, and this one has {len(axes)}", "init")


@register
class HippoLegsA(Init):
    """The matrix of HiPPO-LegS, whose state holds the past in Legendre polynomials (Gu et al., NeurIPS 2020):
    -sqrt((2 i + 1) (2 j + 1)) below the diagonal, -(i + 1) on it, 0 above.
    """

    name: ClassVar[str] = "hippo_legs_a"

    def check(self, axes: Mapping[str, Size]) -> None:
        if len(axes) != 2:
            raise OpError("A319", f"`hippo_legs_a` starts weights of two axes, and this one has {len(axes)}", "init")

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        n = shape.strip("()").partition(",")[0]
        root = f"torch.arange(1.0, 2 * {n}, 2).sqrt()"
        return f"-{root}.outer({root}).tril(-1) - torch.arange(1.0, {n} + 1).diag()"


@register
class HippoLegsB(Init):
    """The vector of HiPPO-LegS: sqrt(2 i + 1) along the last axis."""

    name: ClassVar[str] = "hippo_legs_b"
    form: ClassVar[str] = "(2 * torch.ones({shape}).cumsum(-1) - 1).sqrt()"


# ---- arithmetic
class Positions(Init):
    """0, 1, .. along one axis: `index(state)` among initialisations."""

    name: ClassVar[str] = "index"

    axis: AxisName
    size: Whole

    def check(self, axes: Mapping[str, Size]) -> None:
        if self.axis not in axes:
            raise OpError("A205", f"the weight has no axis `{self.axis}`", "init")
        if axes[self.axis] != self.size:
            title = (
                f"`index({self.axis})` has {self.size} positions, and the weight has {self.axis} = {axes[self.axis]}"
            )
            raise OpError("A204", title, "init", help=f"`index({self.axis} = {axes[self.axis]})`")

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        behind = len(names) - 1 - names.index(self.axis)
        places = f"torch.arange({const(self.size)}, dtype=torch.get_default_dtype())"
        if len(names) == 1:
            return places
        if behind:
            places = f"{places}[:{', None' * behind}]"
        return f"{places}.expand({shape}).contiguous()"


class Arithmetic(Init):
    """Two initialisations, or one and a number, under an operator."""

    name: ClassVar[str] = "arithmetic"
    product: ClassVar[bool] = True

    operator: str
    left: Any
    right: Any

    def check(self, axes: Mapping[str, Size]) -> None:
        for side in (self.left, self.right):
            if isinstance(side, Init):
                side.check(axes)

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        left, right = (_inside(side, shape, names, const) for side in (self.left, self.right))
        return f"{left} {self.operator} {right}"


class Function(Init):
    """A function of an initialisation or of a number, written as `form`."""

    start: Any

    def check(self, axes: Mapping[str, Size]) -> None:
        as_init(self.start).check(axes)

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        return self.form.format(start=as_init(self.start).code(shape, names, const), **self._numbers(const))


class Applied(Function):
    """A function that torch has."""

    name: ClassVar[str] = "applied"
    form: ClassVar[str] = "torch.{function}({start})"

    function: str

    def _numbers(self, const: Write) -> dict[str, str]:
        return {"function": self.function}


@register
class SoftplusInverse(Function):
    """The y with softplus(y) = log(1 + e^y) = start."""

    name: ClassVar[str] = "softplus_inverse"
    form: ClassVar[str] = "torch.log(torch.expm1({start}))"

    def _numbers(self, const: Write) -> dict[str, str]:
        return {}


def _inside(side: Any, shape: str, names: tuple[str, ...], const: Write) -> str:
    if not isinstance(side, Init):
        return const(side)
    text = side.code(shape, names, const)
    return f"({text})" if side.product else text


FUNCTIONS = ("exp", "log", "log2", "sqrt", "abs", "sin", "cos", "tanh")


def combine(operator: str, a: Any, b: Any) -> Init:
    """`a operator b`, where one is an initialisation and the other one or a number."""
    return Arithmetic(operator=operator, left=_value(a), right=_value(b))


def apply(function: str, init: Init) -> Init:
    """A function of an initialisation, by its name in the language."""
    if function not in FUNCTIONS:
        known = ", ".join(FUNCTIONS)
        raise OpError("A303", f"`{function}` does not work on initialisations", None, f"these do: {known}")
    return Applied(function=function, start=init)


def as_init(value: Any) -> Init:
    """An initialisation, or the constant of a number."""
    return value if isinstance(value, Init) else Constant(value=value)


def _start(value: Any) -> Any:
    if value is None or isinstance(value, Init):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise ValueError(f"must be an initialisation or a number, and is {describe(value)}")
    return as_init(value)


Start: TypeAlias = Annotated[Any, BeforeValidator(_start)]  # an Init, or None for that of PyTorch's module


def _value(value: Any) -> Any:
    return value if isinstance(value, Init) else Constant(value=value).value
