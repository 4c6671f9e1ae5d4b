"""Operators and elementwise functions; tensors broadcast by the names of their axes."""

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Operand, OpError, Primitive, Term, Types, register
from archlang.primitives.broadcast import derive, floating, infix, join, need_order, refuse
from archlang.shapes import TensorType, is_float
from archlang.sizes import Poly

COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def _is_real(dtype: str) -> bool:
    return is_float(dtype) or dtype.startswith("complex")


def _others(a: TensorType | None, b: TensorType | None) -> Memory:
    """A product reads the other side."""
    return Memory({"a": "b", "b": "a"} if a is not None and b is not None else {})


def _with_number(dtype: str, number: Any) -> str:
    """The dtype of a tensor combined with a number: the number gives way, unless it is of a higher kind."""
    if isinstance(number, float) and not _is_real(dtype):
        return "float"
    return "int" if dtype == "bool" else dtype


class Binary(Primitive):
    """`a OP b`, element by element, broadcast by name.

    `left` or `right` is the number on the side that has no tensor.
    """

    inputs: ClassVar[tuple[str, ...]] = ("a?", "b?")
    numbers: ClassVar[dict[str, str]] = {"a": "left", "b": "right"}  # the field for a side that is a number
    symbol: ClassVar[str]
    tight: ClassVar[bool] = False
    divides: ClassVar[bool] = False
    meaning: ClassVar[Callable[[Any, Any], Any]]

    left: Operand | None = None
    right: Operand | None = None

    def infer(self, facts: Facts, a: TensorType | None = None, b: TensorType | None = None) -> TensorType:
        tensors = [type_ for type_ in (a, b) if type_ is not None]
        if len(tensors) + (self.left is not None) + (self.right is not None) != 2:
            raise OpError("A301", f"`{self.name}` takes two values", help=f"give both: `{self.name}(a, b)`")
        if self.divides and self.right == 0:
            raise OpError("A306", f"division by zero: `{self.symbol} 0`", "right")
        joined = join(facts, *tensors)
        number = self.right if self.left is None else self.left
        dtype = joined.dtype if number is None else _with_number(joined.dtype, number)
        return joined.cast(self.result(joined, dtype))

    def result(self, joined: TensorType, dtype: str) -> str:
        """The dtype of the result, given that of the operands."""
        if dtype == "bool":
            raise refuse(
                joined, f"`{self.symbol}` takes numbers", "`cast(x, int)`, or `and` and `or` for truth values", "a"
            )
        return dtype

    def emit(self, code: Emission, a: Term | None = None, b: Term | None = None) -> Term:
        if a is not None and b is not None:
            a, b = code.align(self.operand(code, a, code.inputs[0]), self.operand(code, b, code.inputs[1]))
            return Term(self.write(a, b), max(a.order, b.order, key=len), self.tight)
        tensor = self.operand(code, a or b, next(type_ for type_ in code.inputs if type_ is not None))
        value = self.right if b is None else self.left
        number = (
            Term(code.size(value), (), str(value).isidentifier())
            if isinstance(value, Poly)
            else Term(code.const(value), ())
        )
        return Term(self.write_number(tensor, number, first=a is None), tensor.order, self.tight)

    def operand(self, code: Emission, term: Any, type_: TensorType) -> Term:
        number = self.right if self.left is None else self.left
        if type_.dtype == "bool" and self.symbol in ("-", "%") and code.outputs[0].dtype == "int":
            return Term(f"{term.safe}.long()", term.order)  # torch does not subtract truth values
        bare = isinstance(number, float) or (type_.dtype == "bool" and self.symbol in ("-", "%"))
        return floating(code, term, type_) if bare else term

    def write(self, a: Term, b: Term) -> str:
        return infix(a, self.symbol, b)

    def write_number(self, tensor: Term, number: Term, first: bool) -> str:
        return self.write(number, tensor) if first else self.write(tensor, number)

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        """Sums pass the gradient on, products read the other side."""
        if self.symbol not in ("+", "-"):
            return _others(a, b)
        return Memory(passes=tuple(name for name, x in (("a", a), ("b", b)) if name == "a" or self.symbol == "+"))

    def reference(self, types: Types, a: Named | None = None, b: Named | None = None) -> Named:
        import torch

        function = type(self).meaning
        a, b = (x and x.map(lambda value: value.long() if value.dtype == torch.bool else value) for x in (a, b))
        if a is not None:
            made = a.combine(self.right if b is None else b, function)
        else:
            assert b is not None
            made = b.map(lambda x: function(self.left, x))
        whole = types.outputs[0].dtype.startswith(("int", "uint"))
        return made.map(lambda x: x.long() if x.is_floating_point() else x) if whole else made


class Division(Binary):
    """a / b; whole numbers become the working type."""

    name: ClassVar[str] = "div"
    symbol: ClassVar[str] = "/"
    divides: ClassVar[bool] = True
    meaning: ClassVar[Callable[[Any, Any], Any]] = operator.truediv

    def result(self, joined: TensorType, dtype: str) -> str:
        return dtype if _is_real(dtype) else "float"

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        """A number is multiplied by the reciprocal."""
        if a is None and b is not None:
            return Memory(kept=b.bytes)
        return Memory({"a": "b", "b": ""} if b is not None else {})

    def operand(self, code: Emission, term: Any, type_: TensorType) -> Term:
        whole = code.outputs[0].dtype == "float" and all(t is None or not _is_real(t.dtype) for t in code.inputs)
        return floating(code, term, type_) if whole else term


class Ordered(Binary):
    """An operation on numbers that have an order."""

    def result(self, joined: TensorType, dtype: str) -> str:
        need_order(joined, self.symbol, "a")
        return super().result(joined, dtype)


class FloorDivision(Ordered):
    """a // b, rounded down."""

    name: ClassVar[str] = "floordiv"
    symbol: ClassVar[str] = "//"
    divides: ClassVar[bool] = True
    meaning: ClassVar[Callable[[Any, Any], Any]] = staticmethod(lambda a, b: (a / b).floor())

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        return Division(left=self.left, right=self.right).memory(a, b)

    def emit(self, code: Emission, a: Term | None = None, b: Term | None = None) -> Term:
        if not _is_real(code.outputs[0].dtype):
            return super().emit(code, a, b)
        # torch has no gradient for `//`
        quotient = Division(left=self.left, right=self.right).emit(code, a, b)
        return Term(f"{quotient.safe}.floor()", quotient.order)


class Modulo(Ordered):
    """a % b = a - b floor(a / b), with the sign of b."""

    name: ClassVar[str] = "mod"
    symbol: ClassVar[str] = "%"
    divides: ClassVar[bool] = True
    meaning: ClassVar[Callable[[Any, Any], Any]] = staticmethod(lambda a, b: a - b * (a / b).floor())

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        if a is None and b is not None:
            return Memory({"b": ""}, kept=b.bytes * 2)
        return _others(a, b)

    def emit(self, code: Emission, a: Term | None = None, b: Term | None = None) -> Term:
        if b is None or self.left is None or not _is_real(code.inputs[1].dtype):
            return super().emit(code, a, b)
        # torch has no gradient for a number `%` a tensor
        number, x = code.const(self.left), code.bind(b, "x")
        return Term(f"{number} - {x.code} * ({number} / {x.code}).floor()", x.order, tight=False)


class Power(Binary):
    """a ** b."""

    name: ClassVar[str] = "pow"
    symbol: ClassVar[str] = "**"
    meaning: ClassVar[Callable[[Any, Any], Any]] = operator.pow

    def infer(self, facts: Facts, a: TensorType | None = None, b: TensorType | None = None) -> TensorType:
        made = super().infer(facts, a, b)
        if not _is_real(made.dtype) and isinstance(self.right, int) and self.right < 0:
            raise refuse(made, "a negative power is of a `float`", "`cast(x, float) ** ...`", "a")
        return made

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        return Memory({"a": "", "b": ""}, output=b is not None)

    def write_number(self, tensor: Term, number: Term, first: bool) -> str:
        # -2 ** x is -(2 ** x)
        return f"torch.pow({number.code}, {tensor.code})" if first else super().write_number(tensor, number, first)


class Comparison(Binary):
    """a OP b as truth values."""

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        return Memory()

    def result(self, joined: TensorType, dtype: str) -> str:
        if self.symbol not in ("==", "!="):
            need_order(joined, self.symbol, "a")
            if joined.dtype == "bool":
                raise refuse(joined, f"`{self.symbol}` takes numbers", "`cast(x, int)`", "a")
        return "bool"


class Logical(Binary):
    """a OP b of truth values."""

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        return Memory()

    def result(self, joined: TensorType, dtype: str) -> str:
        if dtype != "bool":
            raise refuse(
                joined, f"`{self.name.removeprefix('logical_')}` takes truth values", "compare first: `x > 0`", "a"
            )
        return "bool"

    def reference(self, types: Types, a: Named | None = None, b: Named | None = None) -> Named:
        return super().reference(types, a, b).map(lambda x: x.bool())


class Extreme(Ordered):
    """The smaller or larger of a and b."""

    tight: ClassVar[bool] = True
    bound: ClassVar[str]

    def memory(self, a: TensorType | None = None, b: TensorType | None = None) -> Memory:
        return Memory({"a": "", "b": ""})

    def write(self, a: Term, b: Term) -> str:
        return f"torch.{self.name}({a.code}, {b.code})"

    def write_number(self, tensor: Term, number: Term, first: bool) -> str:
        return f"{tensor.safe}.clamp({self.bound}={number.code})"


def _greater(a: Any, b: Any) -> Any:
    import torch

    return torch.where(a >= b, a, b)


def _less(a: Any, b: Any) -> Any:
    import torch

    return torch.where(a <= b, a, b)


def _define(base: type[Binary], name: str, law: str, meaning: Callable[[Any, Any], Any], **facts: Any) -> None:
    """A binary operation from its name, its law and its meaning."""
    space = {"__doc__": law, "symbol": law.split()[1], "meaning": staticmethod(meaning)}
    derive(name, base, space | facts)


_define(Binary, "add", "a + b.", operator.add)
_define(Binary, "sub", "a - b.", operator.sub)
_define(Binary, "mul", "a * b.", operator.mul)
register(Modulo)
register(Division)
register(FloorDivision)
register(Power)
for _symbol, _name in COMPARISONS.items():
    _define(Comparison, _name, f"a {_symbol} b.", getattr(operator, _name))
_define(Logical, "logical_and", "a & b, where both are true.", lambda a, b: a * b)
_define(Logical, "logical_or", "a | b, where one is true.", lambda a, b: (a + b) > 0)
_define(Extreme, "maximum", "a max b, the larger.", _greater, bound="min")
_define(Extreme, "minimum", "a min b, the smaller.", _less, bound="max")
