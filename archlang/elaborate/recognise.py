"""Scans that are linear recurrences, rewritten: what no carry touches is computed for all positions at once, a carry
that is only scaled and added to becomes a cumulative sum or a `linear_recurrence`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from archlang.diagnostics import ArchError
from archlang.elaborate import calls
from archlang.elaborate.chains import Body, Chain, NotLinearError, Part, Product, Reading, Write, key_of
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.values import Given, Layer
from archlang.ir import Call, Foreign, Graph, Input, Node, Scan, Value
from archlang.primitive import AxisMap, OpError
from archlang.primitives import CONSTRUCTS
from archlang.shapes import Axis
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


@dataclass(frozen=True, slots=True)
class Names:
    """The axis of keys and that of values in a state, and all of its axes; a recurrence calls both `c`."""

    key: str
    value: str
    axes: tuple[str, ...]

    @property
    def aside(self) -> dict[str, str]:
        """Another axis that is called `c`."""
        return {"c": "lane"} if "c" in self.axes and "c" not in (self.key, self.value) else {}

    @property
    def keyed(self) -> dict[str, str]:
        return {self.key: "c", **self.aside}

    @property
    def valued(self) -> dict[str, str]:
        return {self.value: "c", **self.aside}

    @property
    def back(self) -> dict[str, str]:
        return {"c": self.value, **{new: old for old, new in self.aside.items()}}


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
        states = (root, final)
        readings: dict[Value, Reading] = {}

        def is_read(value: Value) -> bool:
            if value not in states and (reading := self.reading(value, states)) is not None:
                readings[value] = reading
            return value in states or value in readings

        bare = not self.met(final, is_read).isdisjoint(states)
        if not bare and not readings:
            return
        chain = self.chain(port, final, root)
        own = [] if bare else self.own_axes(port, final, chain, list(readings.values()))
        if own:
            self.matrix(port, final, chain, list(readings.values()), own)
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
        root = self.body.inputs[port]
        if root in self.met(final, lambda value: value == root):
            start = self.given.get(port, self.op.starts.get(port))
            self.lifted[key_of(root)] = self.before(self.lifted[key_of(final)], start)

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
    def own_axes(self, port: str, final: Value, chain: Chain, readings: Sequence[Reading]) -> list[Axis]:
        """The axes of a state that its queries and keys lack; those of the batch stay apart."""
        keys = {reading.keys for reading in readings}
        if len(keys) != 1 or len(key := keys.pop()) != 1:
            raise NotLinearError(f"`{port}` is read along different axes")
        factors = [f for products in chain.added for product in products for f in product.factors if key[0] in f.type]
        known = {name for value in (*(r.query for r in readings), *factors) for name in value.type.names}
        return [axis for axis in final.type if axis.name not in known and axis.role != "batch"]

    def matrix(self, port: str, final: Value, chain: Chain, readings: Sequence[Reading], own: Sequence[Axis]) -> None:
        """`S = a S + k v` read by `dot(q, S)`: a linear recurrence for each reading."""
        apart = [axis.name for axis in own if not any(axis.name in gate.type for gate in chain.gates)]
        if not apart:
            raise NotLinearError(f"`{port}` decays by pairs of channels, which no products of matrices do")
        names = Names(readings[0].keys[0], "c" if "c" in apart else apart[-1], final.type.names)
        writes = [self.write(port, products, names.key, final) for products in chain.added]
        fields = self.fields(writes)
        start = self.start(port, final, names)
        ports = {final: {**self.ports(writes, chain, names, fields), **start}}
        for reading in readings:
            for state in (part.state for part in reading.parts):
                if state is not None and state not in ports:
                    ports[state] = {n: self.before(x, int(n == "decay")) for n, x in ports[final].items()}
            items = [self.part(port, reading, part, names, ports, fields) for part in reading.parts]
            made = reduce(lambda a, b: calls.operation(self.cx, "add", [("a", a), ("b", b)], {}, self.span), items)
            if set(made.type.names) - {self.op.axis.name} != set(reading.value.type.names):
                raise NotLinearError(f"`{port}` broadcasts in a way that recurrences do not")
            self.keep(reading.value, made)

    def start(self, port: str, final: Value, names: Names) -> dict[str, Value]:
        """The state before the first position, if it is not 0."""
        given, number = self.given.get(port), self.op.starts.get(port)
        if given is not None:
            return {"start": self.renamed(given, {names.key: "c", names.value: "c_value", **names.aside})}
        if number == 0:
            return {}
        sizes = AxisMap((("c", final.type.size(names.key)), ("c_value", final.type.size(names.value))))
        return {"start": calls.operation(self.cx, "expand", [("x", self.number(number))], {"sizes": sizes}, self.span)}

    def part(
        self,
        port: str,
        reading: Reading,
        part: Part,
        names: Names,
        ports: Mapping[Value, Mapping[str, Value]],
        fields: Mapping[str, Any],
    ) -> Value:
        """One product of what is read: factors with the key are those of the query."""
        inside = [self.lift(factor) for factor in part.factors if names.key in factor.type]
        beside = [self.lift(factor) for factor in part.factors if names.key not in factor.type]
        query = self.lift(reading.query)
        if part.state is not None:
            made = self.recurrence(port, self.product([query, *inside]), names, ports[part.state], fields)
        elif inside:
            pairs = [("a", query), ("b", self.product(inside))]
            made = calls.operation(self.cx, "dot", pairs, {"on": (names.key,)}, self.span)
        else:
            raise NotLinearError(f"what is read beside `{port}` has no axis `{names.key}`")
        made = self.product([made, *beside])
        if part.number == 1:
            return made
        scaled: Value = calls.operation(self.cx, "mul", [("a", made)], {"right": part.number}, self.span)
        return scaled

    def recurrence(
        self, port: str, query: Value, names: Names, ports: Mapping[str, Value], fields: Mapping[str, Any]
    ) -> Value:
        """What a query reads of a state."""
        if names.value in query.type:
            raise NotLinearError(f"`{port}` is read with a query that has its axis `{names.value}`")
        given = {**fields, "q": self.renamed(self.along(query), names.keyed), **ports}
        hypers = {name: Given(value, self.span) for name, value in given.items() if name in fields}
        inputs = {name: Given(value, self.span) for name, value in given.items() if name not in fields}
        layer = Layer(CONSTRUCTS["linear_recurrence"], self.span, hypers, inputs)  # type: ignore[arg-type]
        result = calls.apply(self.cx, layer, {}, self.span)
        self.remark(result, f"a scan whose carry `{port}` is only scaled and written to is this recurrence")
        return self.renamed(result, names.back)

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

    def ports(self, writes: Sequence[Write], chain: Chain, names: Names, fields: Mapping[str, Any]) -> dict[str, Value]:
        """k, v, beta and decay for all positions."""
        inner = fields["inner"][0] if "inner" in fields else None
        ks = [write.k for write in writes]
        vs = [(*write.v, *(() if write.delta else write.scale)) for write in writes]
        found = {"k": self.renamed(self.along(self.side_by_side(ks, inner)), names.keyed)}
        v = self.renamed(self.along(self.side_by_side(vs, inner)), names.valued)
        if any(write.sign < 0 for write in writes):
            if len({write.sign for write in writes}) > 1:
                raise NotLinearError("what is written at a position differs in sign")
            v = calls.operation(self.cx, "neg", [("x", v)], {}, self.span)
        found["v"] = v
        if (gate := self.gate(chain)) is not None:
            found["decay"] = self.renamed(gate if isinstance(gate, Value) else self.number(gate), names.keyed)
        if writes[0].delta:
            beta = self.side_by_side([write.scale for write in writes], inner)
            found["beta"] = self.renamed(beta, names.aside)
        return found

    def along(self, value: Value) -> Value:
        """A value with the axis of the scan."""
        axis = self.op.axis
        if axis.name in value.type:
            return value
        fields = {"sizes": AxisMap(((axis.name, axis.size),))}
        made: Value = calls.operation(self.cx, "expand", [("x", value)], fields, self.span)
        return made

    def number(self, value: Any) -> Value:
        """A tensor without axes."""
        line = calls.operation(self.cx, "values", [], {"numbers": [value], "on": ("one",)}, self.span)
        made: Value = calls.operation(self.cx, "select", [("x", line)], {"axis": ("one",), "index": 0}, self.span)
        return made

    def before(self, value: Value, start: Any) -> Value:
        """A value at the position before; at the first one `start`, a number or a tensor."""
        axis, graph = self.op.axis.name, value.graph
        if axis not in value.type:
            return value
        if (node := graph.producer(value)).op.name == "exp":  # a decay, of which the logarithm is taken
            log = self.before(graph.operands(node)[0][1], 0)
            made: Value = calls.operation(self.cx, "exp", [("x", log)], {}, self.span)
            return made
        ends = {"start": 1} if self.op.reverse else {"stop": -1}
        others = calls.operation(self.cx, "slice", [("x", value)], {"axis": (axis,), **ends}, self.span)
        if isinstance(start, Value):
            first = calls.operation(self.cx, "expand", [("x", start)], {"sizes": AxisMap(((axis, 1),))}, self.span)
            items = [others, first] if self.op.reverse else [first, others]
            pairs = [(f"xs.{i}", item) for i, item in enumerate(items)]
            joined: Value = calls.operation(self.cx, "concat", pairs, {"on": (axis,)}, self.span)
            return joined
        sides = (0, 1) if self.op.reverse else (1, 0)
        fields = {"amounts": AxisMap(((axis, sides),)), "value": start}
        padded: Value = calls.operation(self.cx, "pad", [("x", others)], fields, self.span)
        return padded

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

    def renamed(self, value: Value, names: Mapping[str, str]) -> Value:
        """Axes under the names that the recurrence knows them by."""
        changed = tuple((old, new) for old, new in names.items() if old in value.type and old != new)
        if not changed:
            return value
        made: Value = calls.operation(self.cx, "rename", [("x", value)], {"names": changed}, self.span)
        return made
