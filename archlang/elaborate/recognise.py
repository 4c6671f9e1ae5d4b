"""Scans that are linear recurrences, rewritten: what no carry touches is computed for all positions at once, a carry
that is only scaled and added to becomes a cumulative sum or a `linear_recurrence`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from archlang.diagnostics import ArchError
from archlang.elaborate import calls
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.values import Given, Layer
from archlang.ir import Call, Foreign, Graph, Input, Node, Scan, Value
from archlang.primitive import OpError, axes_of
from archlang.primitives import CONSTRUCTS
from archlang.source import Span

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


def recognise(cx: Context, op: Scan, given: dict[str, Value], span: Span) -> tuple[Value, ...]:
    """What a scan yields, without a loop; raises `NotLinearError` with the reason where it needs one."""
    trial = cx.inner(frame=Frame(Graph("trial"), cx.frame))  # nothing is left behind where it fails
    try:
        Recurrence(trial, op, given, span).run()
    except (ArchError, OpError) as failure:
        titles = [d.title for d in failure.diagnostics] if isinstance(failure, ArchError) else [failure.title]
        raise NotLinearError(titles[0]) from None
    return Recurrence(cx, op, given, span).run()


class Recurrence:
    """One scan, position by position in `op.graph`, for all positions at once in the graph of `cx`."""

    def __init__(self, cx: Context, op: Scan, given: dict[str, Value], span: Span) -> None:
        self.cx, self.op, self.given, self.span = cx, op, given, span
        self.body: Graph = op.graph
        self.lifted: dict[Key, Value] = {
            _key(value): given[port] for port, value in self.body.inputs.items() if port not in op.carries
        }

    def run(self) -> tuple[Value, ...]:
        for node in self.body:
            if node.label is not None and self.free(Value(self.body, node.id, 0, node.types[0])):
                self.lift(Value(self.body, node.id, 0, node.types[0]))  # weights in the order of the source
        waiting = dict(self.body.outputs[: len(self.op.carries)])
        while waiting:
            reasons = []
            for port, final in list(waiting.items()):
                try:
                    self.carry(port, final)
                    del waiting[port]
                except NotLinearError as reason:
                    reasons.append(reason)
            if len(reasons) == len(waiting) and waiting:
                raise reasons[0]
        return tuple(self.whole(value) for value in self.op.yields)

    def whole(self, value: Value) -> Value:
        made = self.lift(value)
        if self.op.axis.name not in made.type:
            raise NotLinearError("what it yields is the same at all positions")
        return made

    # ---- what no carry touches
    def free(self, value: Value) -> bool:
        """Whether a value of the body can be had for all positions at once."""
        if _key(value) in self.lifted:
            return True
        node = self.body.producer(value)
        operands = [operand for _, operand in self.body.operands(node)]
        return not isinstance(node.op, Input | Call | Foreign | Scan) and all(map(self.free, operands))

    def lift(self, value: Value) -> Value:
        """A value of the body for all positions."""
        if _key(value) not in self.lifted:
            node = self.body.producer(value)
            self._check_alike(node)
            pairs = [(argument, self.lift(operand)) for argument, operand in self.body.operands(node)]
            self._check_apart(node, pairs)
            made = calls.add(self.cx, node.op, pairs, node.span, {})
            for i, (new, type_) in enumerate(zip(made, node.types, strict=True)):
                if set(new.type.names) - {self.op.axis.name} != set(type_.names):
                    raise NotLinearError(f"`{node.op.name}` means another thing for all positions at once")
                if node.label is not None:
                    self.cx.frame.graph.label(new, node.label)
                if name := self.body.name_of(Value(self.body, node.id, i, type_)):
                    self.cx.frame.graph.rename(new, name)
                self.lifted[node.id, i] = new
        return self.lifted[_key(value)]

    def _check_alike(self, node: Node) -> None:
        if isinstance(node.op, Input):
            raise NotLinearError(f"`{node.op.port}` is read as the position before left it")
        if isinstance(node.op, Call | Foreign | Scan):
            raise NotLinearError(f"`{node.label or node.op.name}` is run at each position")

    def _check_apart(self, node: Node, pairs: Sequence[tuple[str, Value]]) -> None:
        """An operation that does not mix the axis is the same at one position and at all."""
        types = Graph.arguments(node.op, [(argument, value.type) for argument, value in pairs])
        along = any(self.op.axis.name in value.type for _, value in pairs)
        if self.op.axis.name in node.op.mixes(*types) or any(p.buffer for p in node.op.params(*types).values()):
            raise NotLinearError(f"`{node.op.name}` would see other positions")
        if node.op.random and not along:
            raise NotLinearError(f"`{node.op.name}` draws anew at each position")

    # ---- carries
    def carry(self, port: str, final: Value) -> None:
        """Replace a carry: the values of the body that read it are had for all positions."""
        root = self.body.inputs[port]
        decays, added = self.chain(port, final, root)
        readers = [node for node, _ in self.body.users(final)]
        if not readers and final not in self.op.yields:
            raise NotLinearError(f"`{port}` is read as the position before left it")
        matrix = bool(readers) and all(node.op.name == "dot" for node in readers) and final not in self.op.yields
        if matrix:
            self.matrix(port, final, decays, added)
        else:
            self.sums(port, final, decays, added)

    def chain(self, port: str, value: Value, root: Value) -> tuple[list[Value], list[list[Product]]]:
        """The factors that scale a carry, and then what is added to it, each a sum of products."""
        if value == root:
            return [], []
        node = self.body.producer(value)
        operands = dict(self.body.operands(node))
        a, b = operands.get("a"), operands.get("b")
        if node.op.name in ("add", "sub", "mul") and a is not None and b is not None:
            sides = [(a, b, 1), (b, a, -1 if node.op.name == "sub" else 1)]
            for state, other, sign in sides if node.op.name != "sub" else sides[:1]:
                if not self.free(state) and (self.free(other) or node.op.name != "mul"):
                    try:
                        decays, added = self.chain(port, state, root)
                        products = [] if node.op.name == "mul" else self.products(other, state)
                    except NotLinearError:
                        if (state, other, sign) == sides[-1] or self.free(other):
                            raise
                        continue
                    if node.op.name == "mul" and added:
                        raise NotLinearError(f"`{port}` is scaled after it is written to")
                    if node.op.name == "mul":
                        return [*decays, other], added
                    flip = -1 if node.op.name == "sub" else 1
                    return decays, [*added, [Product(p.factors, p.sign * flip, p.old) for p in products]]
        said = self.body.name_of(value) if isinstance(node.op, Input) else None
        raise NotLinearError(f"`{said or node.op.name}` stands between `{port}` and what it becomes")

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
        if node.op.name == "mul" and len(operands) == 2 and _key(value) not in self.lifted:
            return [*self.factors(operands["a"]), *self.factors(operands["b"])]
        return [value]

    # ---- sums
    def sums(self, port: str, final: Value, decays: list[Value], added: list[list[Product]]) -> None:
        """`s = a s + x`: what was added so far, all of it or with a gate."""
        if any(product.old is not None for products in added for product in products) or not added:
            raise NotLinearError(f"`{port}` is read by what is added to it")
        start = self.op.starts.get(port)
        item = self.total([self.product([self.lift(f) for f in p.factors]) for ps in added for p in ps], added)
        gate = self.product([self.lift(decay) for decay in decays]) if decays else None
        root = self.body.inputs[port]
        made = {name for value in (item, gate) if value is not None for name in value.type.names}
        if made != {*root.type.names, self.op.axis.name} or self.op.axis.name not in item.type:
            raise NotLinearError(f"what is added to `{port}` has not all of its axes")
        if gate is not None:
            total = self.gated(port, item, gate)
        elif self.op.reverse:
            raise NotLinearError("it runs from the last position")
        else:
            total = calls.operation(self.cx, "cumsum", [("x", item)], {"on": (self.op.axis.name,)}, self.span)
            self.remark(total, f"a cumulative sum: a scan only adds to `{port}`")
        if gate is None and start is None:
            total = calls.operation(self.cx, "add", [("a", total), ("b", self.given[port])], {}, self.span)
        elif gate is None and start != 0:
            total = calls.operation(self.cx, "add", [("a", total)], {"right": start}, self.span)
        self.keep(final, total)

    def gated(self, port: str, item: Value, gate: Value) -> Value:
        """`s = a s + x`, element by element."""
        if self.op.starts.get(port, 0) != 0:
            raise NotLinearError(f"`{port}` does not start from 0")
        pairs = [("x", item), ("decay", gate)]
        if port in self.given:
            pairs.append(("start", self.given[port]))
        fields = {"on": (self.op.axis.name,), "reverse": self.op.reverse}
        made: Value = calls.operation(self.cx, "gated_sum", pairs, fields, self.span)
        self.remark(made, f"a gated sum: a scan only scales and adds to `{port}`")
        return made

    def total(self, items: list[Value], added: list[list[Product]]) -> Value:
        """The sum of products with their signs."""
        signs = [product.sign for products in added for product in products]
        first = items[0] if signs[0] > 0 else calls.operation(self.cx, "neg", [("x", items[0])], {}, self.span)
        for item, sign in zip(items[1:], signs[1:], strict=True):
            name = "add" if sign > 0 else "sub"
            first = calls.operation(self.cx, name, [("a", first), ("b", item)], {}, self.span)
        return first

    def keep(self, value: Value, made: Value) -> None:
        self.lifted[_key(value)] = made
        if name := self.body.name_of(value):
            self.cx.frame.graph.rename(made, name)

    # ---- matrix states
    def matrix(self, port: str, final: Value, decays: list[Value], added: list[list[Product]]) -> None:
        """`S = a S + k v` read by `dot(q, S)`: a linear recurrence for each reader."""
        readers = [node for node, _ in self.body.users(final)]
        keys = {axes_of(node.op.on, final.type) for node in readers if hasattr(node.op, "on")}
        if len(keys) != 1 or len(key := keys.pop()) != 1:
            raise NotLinearError(f"`{port}` is read along different axes")
        queries = [next(v for _, v in self.body.operands(node) if v != final) for node in readers]
        if not all(map(self.free, queries)):
            raise NotLinearError(f"`{port}` is read with a query that depends on a carry")
        known = {name for value in queries for name in value.type.names}
        if not decays and set(final.type.names) <= known:
            self.sums(port, final, decays, added)
            return
        if self.op.starts.get(port) != 0:
            raise NotLinearError(f"`{port}` does not start from 0")
        writes = [self.write(port, products, key[0], final) for products in added]
        known |= {name for write in writes for value in write.k for name in value.type.names}
        values = [name for name in final.type.names if name not in known]
        if len(values) != 1:
            raise NotLinearError(f"`{port}` has {len(values) or 'no'} axes of its own, and a matrix state has one")
        if any(values[0] in decay.type for decay in decays):
            raise NotLinearError(f"`{port}` decays by pairs of channels, which no products of matrices do")
        fields = self.fields(writes)
        shared = self.ports(writes, decays, key[0], values[0], fields)
        for node, query in zip(readers, queries, strict=True):
            q = self.renamed(self.lift(query), key[0])
            ports = {"q": q, **shared}
            layer = Layer(
                CONSTRUCTS["linear_recurrence"],  # type: ignore[arg-type]
                self.span,
                {name: Given(value, self.span) for name, value in fields.items()},
                {name: Given(value, self.span) for name, value in ports.items()},
            )
            result = calls.apply(self.cx, layer, {}, self.span)
            self.remark(result, f"a scan whose carry `{port}` is only scaled and written to is this recurrence")
            made = self.renamed(result, "c", values[0])
            if set(made.type.names) - {self.op.axis.name} != set(node.types[0].names):
                raise NotLinearError(f"`{port}` broadcasts in a way that recurrences do not")
            self.keep(Value(self.body, node.id, 0, node.types[0]), made)

    def remark(self, made: Value, text: str) -> None:
        self.cx.frame.graph.remarks[made.node] = text

    def write(self, port: str, products: list[Product], key: str, final: Value) -> Write:
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

    def same(self, values: Iterable[Value]) -> list[str]:
        """Equal for the same values, however often they are computed."""
        return sorted(map(self.text, values))

    def text(self, value: Value) -> str:
        node = self.body.producer(value)
        if isinstance(node.op, Input) or node.op.random or node.label is not None:
            return f"%{value.node}.{value.output}"
        return f"{node.op}.{value.output}({', '.join(self.text(v) for _, v in self.body.operands(node))})"

    def fields(self, writes: Sequence[Write]) -> dict[str, Any]:
        """The hyper-parameters of the recurrence."""
        if not writes or len({write.delta for write in writes}) > 1:
            raise NotLinearError("what is written at a position differs in form")
        fields: dict[str, Any] = {"on": (self.op.axis.name,)}
        if self.op.reverse:
            fields["reverse"] = True
        if len(writes) > 1:
            fields["inner"] = (self.inner(writes),)
        return fields

    def inner(self, writes: Sequence[Write]) -> str:
        """The axis of several writes at a position."""
        node = self.body.producer(writes[0].k[0])
        return str(getattr(node.op, "axis", "factor")) if node.op.name == "select" else "factor"

    def ports(
        self, writes: Sequence[Write], decays: list[Value], key: str, value: str, fields: dict[str, Any]
    ) -> dict[str, Value]:
        """k, v, beta and decay for all positions."""
        inner = fields["inner"][0] if "inner" in fields else None
        ks = [write.k for write in writes]
        vs = [(*write.v, *(() if write.delta else write.scale)) for write in writes]
        found = {"k": self.renamed(self.side_by_side(ks, inner), key)}
        v = self.renamed(self.side_by_side(vs, inner), value)
        if any(write.sign < 0 for write in writes):
            if len({write.sign for write in writes}) > 1:
                raise NotLinearError("what is written at a position differs in sign")
            v = calls.operation(self.cx, "neg", [("x", v)], {}, self.span)
        found["v"] = v
        if decays:
            found["decay"] = self.renamed(self.product([self.lift(decay) for decay in decays]), key)
        if writes[0].delta:
            found["beta"] = self.side_by_side([write.scale for write in writes], inner)
        return found

    def side_by_side(self, groups: Sequence[tuple[Value, ...]], inner: str | None) -> Value:
        """Products, one a write, along the axis `inner`: what they were selected from, or stacked."""
        if inner is None:
            return self.product([self.lift(value) for value in groups[0]])
        if all(len(group) == 1 for group in groups):
            nodes = [self.body.producer(value) for (value,) in groups]
            sources = {self.body.operands(node)[0][1] for node in nodes if node.op.name == "select"}
            places = [(getattr(node.op, "axis", ""), getattr(node.op, "index", None)) for node in nodes]
            if len(sources) == 1 and places == [(inner, i) for i in range(len(nodes))]:
                (source,) = sources
                if source.type.size(inner) == len(nodes):
                    return self.lift(source)
        items = [self.product([self.lift(value) for value in group]) for group in groups]
        pairs = [(f"xs.{i}", item) for i, item in enumerate(items)]
        made: Value = calls.operation(self.cx, "stack", pairs, {"axis": (inner,)}, self.span)
        return made

    def product(self, values: list[Value]) -> Value:
        return reduce(lambda a, b: calls.operation(self.cx, "mul", [("a", a), ("b", b)], {}, self.span), values)

    def renamed(self, value: Value, old: str, new: str = "c") -> Value:
        """An axis under the name that the recurrence knows it by."""
        if old == new or old not in value.type:
            return value
        made: Value = calls.operation(self.cx, "rename", [("x", value)], {"names": ((old, new),)}, self.span)
        return made


def _key(value: Value) -> Key:
    return value.node, value.output


def _times(left: Product, right: Product) -> Product:
    if left.old is not None and right.old is not None:
        raise NotLinearError("a product of the carry with itself is not linear")
    return Product((*left.factors, *right.factors), left.sign * right.sign, left.old or right.old)
