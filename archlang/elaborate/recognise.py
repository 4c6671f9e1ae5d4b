"""Scans that are linear recurrences, rewritten: what no carry touches is computed for all positions at once, a carry
that is only scaled and added to becomes a cumulative sum or a `linear_recurrence`.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from archlang.diagnostics import ArchError
from archlang.elaborate import calls
from archlang.elaborate.chains import Body, Chain, NotLinearError, Product, Write, key_of
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.values import Given, Layer
from archlang.ir import Call, Foreign, Graph, Input, Node, Scan, Value
from archlang.primitive import OpError, axes_of
from archlang.primitives import CONSTRUCTS
from archlang.source import Span


def recognise(cx: Context, op: Scan, given: dict[str, Value], span: Span) -> tuple[Value, ...]:
    """What a scan yields, without a loop; raises `NotLinearError` with the reason where it needs one."""
    trial = cx.inner(frame=Frame(Graph("trial"), cx.frame))  # nothing is left behind where it fails
    try:
        Recurrence(trial, op, given, span).run()
    except (ArchError, OpError) as failure:
        titles = [d.title for d in failure.diagnostics] if isinstance(failure, ArchError) else [failure.title]
        raise NotLinearError(titles[0]) from None
    return Recurrence(cx, op, given, span).run()


class Recurrence(Body):
    """One scan, position by position in `op.graph`, for all positions at once in the graph of `cx`."""

    def __init__(self, cx: Context, op: Scan, given: dict[str, Value], span: Span) -> None:
        super().__init__(op)
        self.cx, self.given, self.span = cx, given, span
        inputs = self.body.inputs.items()
        self.lifted = {key_of(value): given[port] for port, value in inputs if port not in op.carries}

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

    def lift(self, value: Value) -> Value:
        """A value of the body for all positions."""
        if key_of(value) not in self.lifted:
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
        return self.lifted[key_of(value)]

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
        chain = self.chain(port, final, root)
        readers = [node for node, _ in self.body.users(final)]
        if not readers and final not in self.op.yields:
            raise NotLinearError(f"`{port}` is read as the position before left it")
        matrix = bool(readers) and all(node.op.name == "dot" for node in readers) and final not in self.op.yields
        if matrix:
            self.matrix(port, final, chain)
        else:
            self.sums(port, final, chain)

    # ---- sums
    def sums(self, port: str, final: Value, chain: Chain) -> None:
        """`s = a s + x`: what was added so far, all of it or with a gate."""
        products = [product for sum_ in chain.added for product in sum_]
        if not products or any(product.old is not None for product in products):
            raise NotLinearError(f"`{port}` is read by what is added to it")
        item, gate, axis = self.total(products), self.gate(chain), self.op.axis.name
        made = {name for value in (item, gate) if isinstance(value, Value) for name in value.type.names}
        if made != {*self.body.inputs[port].type.names, axis} or axis not in item.type:
            raise NotLinearError(f"what is added to `{port}` has not all of its axes")
        self.keep(final, self.cumulative(port, item) if gate is None else self.gated(port, item, gate))

    def cumulative(self, port: str, item: Value) -> Value:
        """`s = s + x`."""
        if self.op.reverse:
            raise NotLinearError("it runs from the last position")
        total: Value = calls.operation(self.cx, "cumsum", [("x", item)], {"on": (self.op.axis.name,)}, self.span)
        self.remark(total, f"a cumulative sum: a scan only adds to `{port}`")
        if port in self.given:
            pairs = [("a", total), ("b", self.given[port])]
            total = calls.operation(self.cx, "add", pairs, {}, self.span)
        elif (start := self.op.starts[port]) != 0:
            total = calls.operation(self.cx, "add", [("a", total)], {"right": start}, self.span)
        return total

    def gated(self, port: str, item: Value, gate: Any) -> Value:
        """`s = a s + x`, element by element."""
        if self.op.starts.get(port, 0) != 0:
            raise NotLinearError(f"`{port}` does not start from 0")
        pairs = [("x", item), *([("decay", gate)] if isinstance(gate, Value) else [])]
        if port in self.given:
            pairs.append(("start", self.given[port]))
        fields = {"on": (self.op.axis.name,), "reverse": self.op.reverse}
        if not isinstance(gate, Value):
            fields["factor"] = gate
        made: Value = calls.operation(self.cx, "gated_sum", pairs, fields, self.span)
        self.remark(made, f"a gated sum: a scan only scales and adds to `{port}`")
        return made

    def gate(self, chain: Chain) -> Any:
        """What scales the carry: a tensor, a number, or nothing."""
        if not chain.gates:
            return None if chain.number == 1 else chain.number
        made = self.product([self.lift(gate) for gate in chain.gates])
        if chain.number == 1:
            return made
        return calls.operation(self.cx, "mul", [("a", made)], {"right": chain.number}, self.span)

    def total(self, products: list[Product]) -> Value:
        """The sum of products with their signs."""
        items = [self.product([self.lift(factor) for factor in product.factors]) for product in products]
        made = items[0]
        if products[0].sign < 0:
            made = calls.operation(self.cx, "neg", [("x", made)], {}, self.span)
        for product, item in zip(products[1:], items[1:], strict=True):
            name = "add" if product.sign > 0 else "sub"
            made = calls.operation(self.cx, name, [("a", made), ("b", item)], {}, self.span)
        return made

    def keep(self, value: Value, made: Value) -> None:
        """Take a value for one of the body, at all positions."""
        if made.type.dtype != value.type.dtype:
            raise NotLinearError(f"it is carried as {value.type.dtype}")
        self.lifted[key_of(value)] = made
        if name := self.body.name_of(value):
            self.cx.frame.graph.rename(made, name)

    # ---- matrix states
    def matrix(self, port: str, final: Value, chain: Chain) -> None:
        """`S = a S + k v` read by `dot(q, S)`: a linear recurrence for each reader."""
        readers = [node for node, _ in self.body.users(final)]
        keys = {axes_of(node.op.on, final.type) for node in readers if hasattr(node.op, "on")}
        if len(keys) != 1 or len(key := keys.pop()) != 1:
            raise NotLinearError(f"`{port}` is read along different axes")
        queries = [next(v for _, v in self.body.operands(node) if v != final) for node in readers]
        if not all(map(self.free, queries)):
            raise NotLinearError(f"`{port}` is read with a query that depends on a carry")
        known = {name for value in queries for name in value.type.names}
        if set(final.type.names) <= known:
            self.sums(port, final, chain)
            return
        if self.op.starts.get(port) != 0:
            raise NotLinearError(f"`{port}` does not start from 0")
        writes = [self.write(port, products, key[0], final) for products in chain.added]
        known |= {name for write in writes for value in write.k for name in value.type.names}
        values = [name for name in final.type.names if name not in known]
        if len(values) != 1:
            raise NotLinearError(f"`{port}` has {len(values) or 'no'} axes of its own, and a matrix state has one")
        if any(values[0] in gate.type for gate in chain.gates):
            raise NotLinearError(f"`{port}` decays by pairs of channels, which no products of matrices do")
        fields = self.fields(writes)
        shared = self.ports(writes, chain, key[0], values[0], fields)
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
        self, writes: Sequence[Write], chain: Chain, key: str, value: str, fields: dict[str, Any]
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
        gate = self.gate(chain)
        if isinstance(gate, Value):
            found["decay"] = self.renamed(gate, key)
        elif gate is not None:
            raise NotLinearError("it decays by a number, and a recurrence by a tensor")
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
