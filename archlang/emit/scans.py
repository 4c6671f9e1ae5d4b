"""Scans as `for` over the positions of an axis."""

from collections.abc import Mapping, Sequence

from archlang.emit.forward import Forward
from archlang.emit.writer import Writer
from archlang.ir import Graph, Input, Node, Scan, Value
from archlang.primitive import Term


class Body(Forward):
    """Writes the body of a scan into the class of the graph around it."""

    def __init__(self, outer: Forward, graph: Graph, results: Sequence[Value]) -> None:
        self.outer, self.root, self.conditions, self.indent = outer, False, (), outer.indent + 4
        self.draft, self.scope, self.sizes, self.orders = outer.draft, outer.scope, outer.sizes, {}
        self.clock = outer.clock
        self.stored: Mapping[int, Mapping[int, Term]] = {}
        self.near = ""  # a variable of the working type that the loop runs over
        self.begin(graph, outer.called, results)

    def input(self, node: Node, op: Input) -> None:
        """What it reads is bound before it."""

    def common_witness(self, attribute: str, floating: bool) -> str | None:
        return f"{self.near}.{attribute}" if self.near else self.outer.common_witness(attribute, floating)


class Loop:
    """A scan as a loop."""

    def __init__(self, outer: Forward, node: Node, op: Scan) -> None:
        self.outer, self.node, self.op = outer, node, op
        outputs = op.graph.outputs
        self.carried = [(port, value) for port, value in outputs[: len(op.carries)] if _is_read(op, port)]
        self.yielded = [(i, value) for i, value in enumerate(op.yields) if outer.uses[node.id, i]]
        self.held: dict[str, str] = {}  # what holds each carry from one call to the next, in a module that decodes
        self.body = Body(outer, op.graph, [value for _, value in (*self.yielded, *self.carried)])

    def write(self) -> None:
        """Carries as they start, the loop, and what it yielded as one tensor."""
        outer, body, op = self.outer, self.body, self.op
        given = {port: self.variable(value) for port, value in outer.operands(self.node)}
        outer.scope.hold(held := [name for term in given.values() for name in outer.scope.reads(term.code)])
        for _, value in outer.operands(self.node):
            outer.use(value)
        state = {port: self.start(port, given) for port, _ in self.carried}
        lists = {i: self.list(i) for i, _ in self.yielded}
        outer.lines += [f"{name} = []" for name in lists.values()]
        outer.lines.append(self.head(given))
        for port, term in given.items():
            if port not in op.each and port not in op.carries:
                self.enter(port, term)
        for node in op.graph:
            body.visit(node)
        orders = self.close(state, lists)
        outer.lines += [f"    {line}" for line in body.lines]
        outer.lines += [f"{self.held[port]}.keep({term.code})" for port, term in state.items() if port in self.held]
        outer.scope.release([*held, *lists.values()])
        outer.keep(self.node, [self.stacked(i, lists, orders) for i in range(len(self.node.types))])

    def variable(self, value: Value) -> Term:
        """A variable of the surroundings."""
        if self.outer.inline(value):
            self.outer.lines.append(self.outer.baptise(value, *self.outer.hints(value)))
        return self.outer.held[value.node, value.output].term

    def list(self, i: int) -> str:
        """The list of what is yielded."""
        called = self.outer.graph.name_of(Value(self.outer.graph, self.node.id, i, self.node.types[i]))
        plural = called and (called if called.endswith("s") else f"{called}s")
        name = self.outer.scope.pick(plural if plural and len(self.yielded) > 1 else "outputs")
        self.outer.scope.hold([name])
        return name

    def enter(self, port: str, term: Term) -> None:
        """What the body reads under a port."""
        value = self.op.graph.inputs[port]
        if self.body.uses[value.node, value.output]:
            self.body.hold((value.node, value.output), term, pending=False)

    # ---- before and after
    def start(self, port: str, given: dict[str, Term]) -> Term:
        """The statement that starts a carry, and its variable."""
        type_, writer = self.op.graph.inputs[port].type, Writer(self.outer, self.node, ())
        order = type_.names
        code = writer.permute(given[port], order).code if port in given else self.filled(port, writer)
        variable = Term(self.outer.scope.pick(port), order)
        if self.outer.clock and self.op.axis.role == "time":
            held = self.held[port] = writer.carried(port, "CarriedState", *(type_.size(name) for name in order))
            code = f"{code} if {held}.held is None else {held}.held"
        self.outer.lines.append(f"{variable.code} = {code}")
        self.enter(port, variable)
        return variable

    def filled(self, port: str, writer: Writer) -> str:
        """A tensor that holds one number, of the dtype and device of one at hand."""
        type_, value = self.op.graph.inputs[port].type, self.op.starts[port]
        shape = writer.shape(tuple(axis.size for axis in type_))
        words = {"float": writer.working(), "int": "torch.int64"}
        dtype = words.get(type_.dtype, f"torch.{type_.dtype}")
        near = dtype.removesuffix(".dtype")
        if near != dtype and near.isidentifier():
            made, options = f"{near}.new_", ""
        else:
            made, options = "torch.", f", dtype={dtype}, device={writer.device()}"
        if value == 0:
            return f"{made}zeros({shape[1:-1].rstrip(',') or '()'}{options})"
        return f"{made}full({shape}, {writer.const(value)}{options})"

    def head(self, given: dict[str, Term]) -> str:
        """`for x_t, y_t in zip(x.unbind(1), y.unbind(1)):`"""
        op = self.op
        targets: list[str] = []
        sources: list[str] = []
        for port in op.each:
            term, value = given[port], op.graph.inputs[port]
            used = self.body.uses[value.node, value.output]
            if used or (port == op.each[-1] and not sources):
                base = term.code if term.code.isidentifier() else port
                name = self.outer.scope.pick(f"{base}_{op.axis.name}") if used else "_"
                order = tuple(axis for axis in term.order if axis != op.axis.name)
                self.enter(port, Term(name, order))
                if used and value.type.dtype == "float":
                    self.body.near = self.body.near or name
                unbound = f"{term.safe}.unbind({term.at(op.axis.name)})"
                targets.append(name)
                sources.append(f"reversed({unbound})" if op.reverse else unbound)
        every = sources[0] if len(sources) == 1 else f"zip({', '.join(sources)})"
        return f"for {', '.join(targets)} in {every}:"

    def close(self, state: dict[str, Term], lists: dict[int, str]) -> dict[int, tuple[str, ...]]:
        """The last statements of the body: what is yielded is kept, then the carries move on."""
        body = self.body
        results = [value for _, value in (*self.yielded, *self.carried)]
        writer = Writer(body, Node(-1, self.op, ()), ())
        terms = [body.slot(i, value) for i, value in enumerate(results)]
        for i, (port, _) in enumerate(self.carried, len(self.yielded)):
            terms[i] = writer.permute(terms[i], state[port].order)
        start = len(body.lines)
        appends = [f"{lists[i]}.append({term.code})" for (i, _), term in zip(self.yielded, terms, strict=False)]
        moves = [
            (state[port].code, term.code)
            for (port, _), term in zip(self.carried, terms[len(self.yielded) :], strict=True)
        ]
        codes = body.fill(start, results, [*appends, *(code for _, code in moves)], ["carry"])
        moved = [(name, code) for (name, _), code in zip(moves, codes[len(appends) :], strict=True) if name != code]
        body.lines += codes[: len(appends)]
        if moved:
            body.lines.append(f"{', '.join(name for name, _ in moved)} = {', '.join(code for _, code in moved)}")
        for value in results:
            body.use(value)
        return {i: term.order for (i, _), term in zip(self.yielded, terms, strict=False)}

    def stacked(self, i: int, lists: dict[int, str], orders: dict[int, tuple[str, ...]]) -> Term:
        """What was yielded, with the axis after those of the batch."""
        if i not in lists:
            return Term("", ())
        batch = self.node.types[i].of_role("batch")
        at = next((k for k, name in enumerate(orders[i]) if name not in batch), len(orders[i]))
        order = (*orders[i][:at], self.op.axis.name, *orders[i][at:])
        return Term(f"torch.stack({lists[i]}{'[::-1]' if self.op.reverse else ''}, {at})", order)


def _is_read(op: Scan, port: str) -> bool:
    """Whether anything but the carry itself depends on it."""
    value = op.graph.inputs[port]
    return bool(op.graph.users(value)) or any(out == value for name, out in op.graph.outputs if name != port)
