"""Elementwise functions of one tensor, `where` and `cast`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Kind, Operand, OpError, Primitive, Term, Types, register
from archlang.primitives.broadcast import derive, floating, join, need_order, refuse
from archlang.shapes import DTYPES, TensorType

OF_COMPLEX = frozenset(  # what is also a function of complex numbers
    "abs cos exp expm1 log log1p log2 neg reciprocal rsqrt sigmoid silu sin sqrt square swish tan tanh".split()
)


class Unary(Primitive):
    """y = f(x), element by element. `form` is the PyTorch text; hyper-parameters have the defaults of PyTorch, and are
    further arguments of the call.
    """

    form: ClassVar[str]
    whole: ClassVar[bool] = False  # whole numbers stay whole; else they become the working type
    saves: ClassVar[tuple[str, ...]] = ("x",)
    between: ClassVar[int] = 0  # values of the size of x on the way that the slope follows from

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if x.dtype == "bool":
            raise refuse(x, f"`{self.name}` takes numbers", "`cast(x, float)`")
        if self.name not in OF_COMPLEX:
            need_order(x, self.name)
        real = self.whole or "float" in x.dtype or "complex" in x.dtype
        return x if real else x.cast("float")

    def emit(self, code: Emission, x: Term) -> Term:
        x = x if self.whole else floating(code, x, code.inputs[0])
        if self.form.count("{x}") > 1:
            x = code.bind(x, "x")
        text = x.safe if "{x}" in self.form.replace("({x}", "") else x.code
        fields = type(self).model_fields.items()
        options = "".join(code.option(getattr(self, name), field.default) for name, field in fields)
        form = f"{self.form[:-1]}{options})" if options else self.form
        return Term(form.format(x=text), x.order, form[-1] == ")" and form[0] != "{")

    def memory(self, x: TensorType) -> Memory:
        return replace(super().memory(x), kept=x.bytes * self.between)

    def reference(self, types: Types, x: Named) -> Named:
        return x.map(self.value)

    def value(self, x: Any) -> Any:
        """The function on a torch tensor."""
        raise NotImplementedError


class Plain(Unary):
    """A function without hyper-parameters."""

    meaning: ClassVar[Callable[[Any], Any]]

    def value(self, x: Any) -> Any:
        return type(self).meaning(x)


def _define(
    name: str, law: str, meaning: Callable[[Any], Any], form: str = "", whole: bool = False, saves: str = "x"
) -> None:
    """A function from its name, its law, its meaning, and what its slope follows from: `x`, `y` or neither."""
    space = {"__doc__": law, "form": form or f"torch.{name}({{x}})", "whole": whole, "saves": tuple(saves)}
    derive(name, Plain, {**space, "meaning": staticmethod(meaning)})


_define("exp", "e^x.", lambda x: x.exp(), saves="y")
_define("log", "The natural logarithm.", lambda x: x.log())
_define("log2", "The logarithm to base 2.", lambda x: x.log() / 0.6931471805599453)
_define("log1p", "log(1 + x), exact for small x.", lambda x: (1 + x).log())
_define("expm1", "e^x - 1, exact for small x.", lambda x: x.exp() - 1, saves="y")
_define("sqrt", "The square root.", lambda x: x**0.5, saves="y")
_define("rsqrt", "1 / sqrt(x).", lambda x: x**-0.5, saves="y")
_define("sin", "The sine; x in radians.", lambda x: (x * 1j).sinh().imag if not x.is_complex() else x.sin())
_define("cos", "The cosine; x in radians.", lambda x: (x * 1j).cosh().real if not x.is_complex() else x.cos())
_define("tan", "sin(x) / cos(x).", lambda x: x.sin() / x.cos(), saves="y")
_define("erf", "2 / sqrt(pi) times the integral of exp(-z^2) from 0 to x.", lambda x: 1 - x.erfc())
_define("reciprocal", "1 / x.", lambda x: 1 / x, saves="y")
_define("square", "x^2.", lambda x: x * x, whole=True)
_define("neg", "-x.", lambda x: 0 - x, form="-{x}", whole=True, saves="")
_define("sign", "-1, 0 or 1.", lambda x: (x > 0).to(x.dtype) - (x < 0).to(x.dtype), whole=True, saves="")
_define("floor", "The largest whole number not above x.", lambda x: x - x % 1, whole=True, saves="")
_define("ceil", "The least whole number not below x.", lambda x: x + (-x) % 1, whole=True, saves="")
_define("round", "The nearest whole number, halves to the even one.", lambda x: x.round(), whole=True, saves="")


@register
class Abs(Unary):
    """|x|; of a complex number its modulus."""

    name: ClassVar[str] = "abs"
    form: ClassVar[str] = "{x}.abs()"
    whole: ClassVar[bool] = True

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return (
            super()
            .infer(facts, x)
            .cast({"complex": "float", "complex64": "float32", "complex128": "float64"}.get(x.dtype, x.dtype))
        )

    def value(self, x: Any) -> Any:
        return (x.real**2 + x.imag**2).sqrt() if x.is_complex() else (x * x.sgn())


@register
class Clamp(Unary):
    """min(max(x, low), high); a bound that is `none` does not hold."""

    name: ClassVar[str] = "clamp"
    whole: ClassVar[bool] = True

    low: Operand | None = None
    high: Operand | None = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        bounds = (self.low, self.high)
        if bounds == (None, None):
            raise OpError("A301", "`clamp` needs a bound", help="`clamp(x, low = 0)`")
        if not any(part in x.dtype for part in ("float", "complex")) and any(
            isinstance(bound, float) for bound in bounds
        ):
            raise refuse(x, "bounds with a fraction are of a `float`")
        return super().infer(facts, x)

    def emit(self, code: Emission, x: Term) -> Term:
        bounds = {"min": self.low, "max": self.high}
        named = ", ".join(f"{word}={code.const(value)}" for word, value in bounds.items() if value is not None)
        return Term(f"{x.safe}.clamp({named})", x.order)

    def value(self, x: Any) -> Any:
        if self.low is not None:
            x = x.where(x >= self.low, x * 0 + self.low)
        return x if self.high is None else x.where(x <= self.high, x * 0 + self.high)


@register
class LogicalNot(Primitive):
    """True where x is false."""

    name: ClassVar[str] = "logical_not"
    saves: ClassVar[tuple[str, ...]] = ()

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if x.dtype != "bool":
            raise refuse(x, "`not` takes truth values", "compare first: `x == 0`")
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"~{x.safe}", x.order, tight=False)

    def reference(self, types: Types, x: Named) -> Named:
        return x.map(lambda value: value == 0)


@register
class Cast(Primitive):
    """x as another dtype of the language: `float`, the working type, `float32`, `int`, `bool` (x != 0) and so on. Of a
    complex x, take `real(x)`, `imag(x)` or `abs(x)`.
    """

    name: ClassVar[str] = "cast"
    saves: ClassVar[tuple[str, ...]] = ()

    dtype: Annotated[str, Kind("dtype")]

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if self.dtype not in DTYPES:
            raise OpError("A214", f"there is no dtype `{self.dtype}`", "dtype", f"one of {', '.join(sorted(DTYPES))}")
        if "complex" in x.dtype and "complex" not in self.dtype and self.dtype != "bool":
            raise refuse(x, f"`cast` to {self.dtype} takes real numbers", "`real(x)`, `imag(x)` or `abs(x)`")
        return x.cast(self.dtype)

    def emit(self, code: Emission, x: Term) -> Term:
        if self.dtype == code.inputs[0].dtype:
            return x
        if self.dtype == "float":
            return Term(f"{x.safe}.to({code.working()})", x.order)
        words = {"int": "int64", "segments": "int64", "complex": "complex64"}
        return Term(f"{x.safe}.to(torch.{words.get(self.dtype, self.dtype)})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        words = {"int": torch.int64, "segments": torch.int64, "complex": torch.complex64}
        if self.dtype == "float":
            return x if x.tensor.is_floating_point() else x.map(lambda value: value.to(torch.get_default_dtype()))
        return x.map(lambda value: value.to(words.get(self.dtype) or getattr(torch, self.dtype)))


@register
class Where(Primitive):
    """`a` where the condition holds, else `b`; all broadcast by name.

    `left` or `right` is the number on a side that has no tensor.
    """

    name: ClassVar[str] = "where"
    saves: ClassVar[tuple[str, ...]] = ("condition",)
    inputs: ClassVar[tuple[str, ...]] = ("condition", "a?", "b?")
    numbers: ClassVar[dict[str, str]] = {"a": "left", "b": "right"}

    left: Operand | None = None
    right: Operand | None = None

    def infer(
        self, facts: Facts, condition: TensorType, a: TensorType | None = None, b: TensorType | None = None
    ) -> TensorType:
        if condition.dtype != "bool":
            raise refuse(condition, "a condition is of truth values", "compare: `x > 0`", "condition")
        if (a is None) == (self.left is None) or (b is None) == (self.right is None):
            raise OpError("A301", "`where` takes a condition and two values")
        tensors = [type_ for type_ in (a, b) if type_ is not None]
        dtype = join(facts, *tensors).dtype if tensors else "bool"
        for number in (self.left, self.right):
            if number is not None and dtype in ("bool", "int"):
                dtype = "float" if isinstance(number, float) else "int" if dtype == "bool" else dtype
        return join(facts, condition, *tensors).cast(dtype)

    def emit(self, code: Emission, condition: Term, a: Term | None = None, b: Term | None = None) -> Term:
        sides = [(term, type_) for term, type_ in zip((a, b), code.inputs[1:], strict=True) if term is not None]
        if code.outputs[0].dtype == "float":
            sides = [(floating(code, term, type_), type_) for term, type_ in sides]
        terms = code.align(condition, *(term for term, _ in sides))
        texts = [term.code for term in terms]
        if a is None:
            texts.insert(1, code.const(self.left))
        if b is None:
            texts.append(code.const(self.right))
        text = f"torch.where({', '.join(texts)})"
        if not sides and code.outputs[0].dtype == "float":
            text = f"{text}.to({code.working()})"
        return Term(text, max((term.order for term in terms), key=len))

    def reference(self, types: Types, condition: Named, a: Named | None = None, b: Named | None = None) -> Named:
        import torch

        names = types.outputs[0].names
        left, right = (
            side.to(names) if isinstance(side, Named) else torch.tensor(side)
            for side in (a or self.left, b or self.right)
        )
        return Named(torch.where(condition.to(names), left, right), names)
