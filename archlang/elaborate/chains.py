"""What becomes of the carries of a scan at one position: read from its body as sums of products."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archlang.ir import Call, Foreign, Graph, Input, Node, Scan, Value
from archlang.primitive import axes_of

Key = tuple[int, int]


class NotLinearError(Exception):
    """Why a scan is no linear recurrence."""


@dataclass(frozen=True, slots=True)
class Write:
    """`S + k v`, or with `beta` `S + beta k (v - k S)`: the factors of each part, values of the body."""

    k: tuple[Value, ...]
    v: tuple[Value, ...]
    scale: tuple[Value, ...]
    sign: int = 1
    delta: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """A product in what is added to a carry; `old` is the key that the carry was read with, for `dot(S, old)`."""

    factors: tuple[Value, ...]
    sign: int = 1
    old: Value | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A product in what is read of a state: factors, a number, and the state itself where it is one of them."""

    factors: tuple[Value, ...] = ()
    number: Any = 1
    state: Value | None = None

    def times(self, other: "Part") -> "Part":
        if self.state is not None and other.state is not None:
            raise NotLinearError("a product of the carry with itself is not linear")
        factors = (*self.factors, *other.factors)
        return Part(factors, self.number * other.number, self.state or other.state)


@dataclass(frozen=True, slots=True)
class Reading:
    """`dot(query, parts, on = keys)`: a value of the body that reads a state."""

    value: Value
    query: Value
    keys: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """What becomes of a carry at a position: a product of gates and a number scales it, then sums are added."""

    gates: tuple[Value, ...] = ()
    number: Any = 1
    added: tuple[tuple[Product, ...], ...] = ()

    def times(self, by: Any) -> "Chain":
        if not isinstance(by, Value):
            return replace(self, number=self.number * by)
        added = tuple(tuple(replace(p, factors=(*p.factors, by)) for p in products) for products in self.added)
        return replace(self, gates=(*self.gates, by), added=added)

    def plus(self, products: tuple[Product, ...]) -> "Chain":
        return replace(self, added=(*self.added, products))


class Body:
    """The body of a scan. `lifted` is what can be had for all positions at once, by node and output."""

    def __init__(self, op: Scan) -> None:
        self.op = op
        self.body: Graph = op.graph
        self.lifted: dict[Key, Value] = {}

    def free(self, value: Value) -> bool:
        """Whether a value of the body can be had for all positions at once."""
        if key_of(value) in self.lifted:
            return True
        node = self.body.producer(value)
        operands = [operand for _, operand in self.body.operands(node)]
        return not isinstance(node.op, Input | Call | Foreign | Scan) and all(map(self.free, operands))

    def chain(self, port: str, value: Value, root: Value) -> Chain:
        """What becomes of a carry: it is scaled, and then added to."""
        if value == root:
            return Chain()
        node = self.body.producer(value)
        operands = dict(self.body.operands(node))
        if node.op.name == "mul" and (scaled := self.scaled(node, list(operands.values()))):
            before = self.chain(port, scaled[0], root)
            if any(product.old is not None for sum_ in before.added for product in sum_):
                raise NotLinearError(f"`{port}` is scaled after it is corrected")
            if before.added and not isinstance(scaled[1], Value):
                raise NotLinearError(f"`{port}` is scaled by a number after it is written to")
            return before.times(scaled[1])
        if node.op.name in ("add", "sub") and len(operands) == 2:
            return self.plus(port, root, operands["a"], operands["b"], node.op.name == "sub")
        if node.op.name == "mul":
            raise NotLinearError(f"`{port}` is scaled by what depends on a carry")
        said = self.body.name_of(value) if isinstance(node.op, Input) else node.label
        raise NotLinearError(f"`{said or node.op.name}` stands between `{port}` and what it becomes")

    def scaled(self, node: Node, operands: list[Value]) -> tuple[Value, Any] | None:
        """A product as a state and what scales it, a tensor or a number."""
        numbers = [n for n in (getattr(node.op, "left", None), getattr(node.op, "right", None)) if n is not None]
        if numbers:
            return operands[0], numbers[0]
        pairs = [operands, operands[::-1]]
        return next(((state, gate) for state, gate in pairs if self.free(gate)), None)

    def plus(self, port: str, root: Value, a: Value, b: Value, minus: bool) -> Chain:
        """A sum as a state and what is added to it."""
        failure: NotLinearError | None = None
        for state, other in [(a, b)] if minus else [(a, b), (b, a)]:
            if self.free(state):
                continue
            try:
                before, products = self.chain(port, state, root), self.products(other, state)
            except NotLinearError as reason:
                failure = failure or reason
                continue
            sign = -1 if minus else 1
            return before.plus(tuple(Product(p.factors, p.sign * sign, p.old) for p in products))
        raise failure or NotLinearError(f"`{port}` is taken from what it becomes")

    def products(self, value: Value, state: Value) -> list[Product]:
        """What is added as a sum of products, each with at most one `dot(state, key)`."""
        node = self.body.producer(value)
        operands = dict(self.body.operands(node))
        if self.free(value):
            return [Product(tuple(self.factors(value)))]
        if node.op.name == "dot" and state in operands.values():
            (key,) = [operand for operand in operands.values() if operand != state]
            if self.free(key):
                return [Product((), old=key)]
        a, b = operands.get("a"), operands.get("b")
        if node.op.name in ("add", "sub") and a is not None and b is not None:
            flip = -1 if node.op.name == "sub" else 1
            right = self.products(b, state)
            return [*self.products(a, state), *(Product(p.factors, p.sign * flip, p.old) for p in right)]
        if node.op.name == "mul" and a is not None and b is not None:
            left, right = self.products(a, state), self.products(b, state)
            return [_times(p, q) for p in left for q in right]
        if node.op.name == "neg":
            return [Product(p.factors, -p.sign, p.old) for p in self.products(operands["x"], state)]
        raise NotLinearError(f"`{node.op.name}` of the carry is not linear")

    def factors(self, value: Value) -> list[Value]:
        """The factors of a product."""
        node = self.body.producer(value)
        operands = dict(self.body.operands(node))
        if node.op.name == "mul" and len(operands) == 2 and key_of(value) not in self.lifted:
            return [*self.factors(operands["a"]), *self.factors(operands["b"])]
        return [value]

    def write(self, port: str, products: Sequence[Product], key: str, final: Value) -> Write:
        """What one addition writes to the state."""
        new = [product for product in products if product.old is None]
        old = [product for product in products if product.old is not None]
        if len(new) != 1 or len(old) > 1:
            raise NotLinearError(f"what is added to `{port}` is not one outer product")
        value_axes = set(final.type.names) - {key}
        k = tuple(f for f in new[0].factors if key in f.type)
        rest = [f for f in new[0].factors if key not in f.type]
        known = {name for f in k for name in f.type.names}
        v = tuple(f for f in rest if set(f.type.names) & (value_axes - known))
        scale = tuple(f for f in rest if f not in v)
        if not k or not v:
            raise NotLinearError(f"what is added to `{port}` is not one outer product")
        if not old:
            return Write(k, v, scale, new[0].sign)
        (before,) = old
        same = (self.same(before.factors), self.same(k), -before.sign) == (
            self.same((*k, *scale)),
            self.same((before.old,)) if before.old is not None else (),
            new[0].sign,
        )
        if not same or new[0].sign != 1 or not scale:
            raise NotLinearError(f"what is taken from `{port}` is not what is written")
        return Write(k, v, scale, delta=True)

    def parts(self, value: Value, states: Iterable[Value]) -> list[Part]:
        """A value that is linear in states as a sum of products."""
        node = self.body.producer(value)
        if value in states:
            return [Part(state=value)]
        if self.free(value):
            return [Part(tuple(self.factors(value)))]
        operands, op = [self.parts(operand, states) for _, operand in self.body.operands(node)], node.op
        number = next((n for n in (getattr(op, "left", None), getattr(op, "right", None)) if n is not None), None)
        if op.name == "mul":
            right = operands[1] if number is None else [Part(number=number)]
            return [a.times(b) for a in operands[0] for b in right]
        if op.name in ("add", "sub") and number is None:
            sign = Part(number=-1 if op.name == "sub" else 1)
            return [*operands[0], *(part.times(sign) for part in operands[1])]
        raise NotLinearError(f"`{op.name}` of the carry is not linear")

    def reading(self, value: Value, states: Sequence[Value]) -> Reading | None:
        """A value as a sum over an axis of a query times what is linear in states."""
        node = self.body.producer(value)
        operands = [operand for _, operand in self.body.operands(node)]
        queries = [operand for operand in operands if self.free(operand)]
        if node.op.name != "dot" or len(queries) != 1:
            return None
        try:
            (read,) = (operand for operand in operands if operand != queries[0])
            parts = self.parts(read, states)
        except NotLinearError:
            return None
        return Reading(value, queries[0], axes_of(getattr(node.op, "on", ()), read.type), tuple(parts))

    def met(self, final: Value, ends: Callable[[Value], bool]) -> set[Value]:
        """What all results but a carry are made of, as far as `ends` and what can be had for all positions at once."""
        waiting = [value for port, value in self.body.outputs if value != final or not port]
        found: set[Value] = set()
        while waiting:
            value = waiting.pop()
            if value not in found and not self.free(value):
                found.add(value)
                waiting += [] if ends(value) else [v for _, v in self.body.operands(self.body.producer(value))]
        return found

    def same(self, values: Iterable[Value]) -> list[str]:
        """Equal for the same values, however often they are computed."""
        return sorted(map(self.text, values))

    def text(self, value: Value) -> str:
        node = self.body.producer(value)
        if isinstance(node.op, Input) or node.op.random or node.label is not None:
            return f"%{value.node}.{value.output}"
        return f"{node.op}.{value.output}({', '.join(self.text(v) for _, v in self.body.operands(node))})"


def key_of(value: Value) -> Key:
    return value.node, value.output


def _times(left: Product, right: Product) -> Product:
    if left.old is not None and right.old is not None:
        raise NotLinearError("a product of the carry with itself is not linear")
    return Product((*left.factors, *right.factors), left.sign * right.sign, left.old or right.old)
