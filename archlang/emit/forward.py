"""The body of `forward`: walks a graph, writes values used once in place and gives others the user's names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from archlang import helpers
from archlang.emit import calls, decoding, head, hints, layout, loops, selects, training, witness
from archlang.emit.calls import Port
from archlang.emit.draft import Declaration, Draft
from archlang.emit.kernels import entries
from archlang.emit.scope import SLOT, Held, Scope, is_atom, opened, place
from archlang.emit.sizes import PAST, LocalSizes, places
from archlang.emit.switches import width
from archlang.emit.tables import Tables
from archlang.emit.writer import Writer
from archlang.facts import Condition
from archlang.ir import Call, Foreign, FusedScan, Graph, Input, Kept, Node, Parameter, Scan, Value, WeightOf
from archlang.primitive import Term
from archlang.primitives.exits import FirstExit
from archlang.primitives.shape import Select
from archlang.shapes import is_float
from archlang.sizes import Poly

if TYPE_CHECKING:
    from archlang.emit.triton import Kernels

WIDTH = 110  # of a line of forward, at most, where names can make it so
Conditions: TypeAlias = Sequence[tuple[Condition, str]]


class Forward:
    """Drafts the class of one graph. Conditions mark it as the model, whose inputs and outputs come as declared."""

    indent = 8
    writer: type[Writer] = Writer

    def __init__(
        self,
        graph: Graph,
        called: Mapping[str, Port],
        orders: Mapping[str, tuple[str, ...]],
        root: Conditions | None = None,
        evaluate: bool = False,
        clock: str | None = None,
        kernels: "Kernels | None" = None,
    ) -> None:
        self.root, self.conditions, self.clock = root is not None, root or (), clock
        self.graph = graph
        self.draft = Draft(graph, kernels)
        outside = {node.op.module.partition(".")[0] for _, node in graph.deep() if isinstance(node.op, Foreign)}
        chains = kernels.chains if kernels else ()
        self.scope = Scope({*helpers.known(), *(entries() if kernels else ()), *outside, *chains})  # not to be hidden
        self.witnesses: dict[str, tuple[str, str]] = {}  # attribute to (variable, the line that reads it)
        self.ports = {name: self.scope.fix(name) for name in graph.layers}
        self.orders = {port: value.type.names if self.root else orders[port] for port, value in graph.inputs.items()}
        self.places = places(graph, self.scope.fix)
        self.sizes = LocalSizes(self.places, self.scope.fix(PAST) if clock else "")
        self.stored = self._derived(called) if evaluate else {}
        self.begin(graph, called, [*self.returned(), *chain(*graph.losses.values())])

    def begin(self, graph: Graph, called: Mapping[str, Port], results: Sequence[Value]) -> None:
        """Start with an empty text, of what the results need."""
        self.graph, self.called = graph, called
        self.held: dict[tuple[int, int], Held] = {}
        self.lines: list[str] = []
        self._temporary: list[str] = []  # names bound by the node at hand, until its results hold them
        self._operands: dict[int, list[tuple[str, Value]]] = {}
        self.tables = Tables(graph)
        self.uses: Counter[tuple[int, int]] = Counter()  # how often each value is read by what the results need
        needed = self._count(results)
        self.lists: dict[str, int] = {}  # lists of tensors and their lengths
        leaving = {value.node for exit in graph.exits for value in exit[1:]}
        found = [loop for loop in loops.find(graph, called, self.uses) if not leaving & {c.id for c in loop.calls}]
        self.loops = {call.id: loop for loop in found if loop.calls[0].id in needed for call in loop.calls}

    def _derived(self, called: Mapping[str, Port]) -> Mapping[int, Mapping[int, Term]]:
        """The results of nodes that `derive` has worked out, by number."""
        from archlang.emit.evaluation import Derived  # a kind of this class

        return Derived(self, called).every()

    # ---- what the graph says
    def operands(self, node: Node) -> list[tuple[str, Value]]:
        """(argument, value) pairs of a node, read from the graph once; none where its results are at hand."""
        if node.id not in self._operands:
            self._operands[node.id] = [] if node.id in self.stored else self.graph.operands(node)
        return self._operands[node.id]

    def types(self, node: Node) -> list[Any]:
        """The types of the operands as operations take them."""
        return Graph.arguments(node.op, [(argument, value.type) for argument, value in self.operands(node)])

    def _count(self, results: Sequence[Value]) -> set[int]:
        """Count the uses of values and return the nodes that the results need; the calls of a loop run together."""
        runs = [[call.id for call in run] for run in loops.runs(self.graph).values()]
        together = {id: run for run in runs for id in run}
        self.uses.update((value.node, value.output) for value in results)
        waiting, needed = [node for node, _ in self.uses], set[int]()
        while waiting:
            if (id := waiting.pop()) not in needed:
                needed.add(id)
                values = [value for _, value in self.operands(self.graph.node(id))]
                self.uses.update((value.node, value.output) for value in values)
                run = together.get(id, [])
                waiting += [*run, *(value.node for value in values)]
                run.clear()  # the first call of a run brings the others
        return needed

    # ---- the walk
    def run(self) -> Draft:
        for node in self.graph:
            if isinstance(node.op, FirstExit):
                training.losses(self)
                training.results(self, node)
            self.visit(node)
            training.leave(self, node)
        self.finish()
        return self.draft

    def visit(self, node: Node) -> None:
        alive = any(self.uses[node.id, i] for i in range(len(node.types)))
        if isinstance(node.op, Input):
            self.input(node, node.op)
        elif node.id in self.stored:
            for i, term in self.stored[node.id].items():
                self.hold((node.id, i), term, pending=False)
        elif node.id in self.loops:
            if (loop := self.loops[node.id]).calls[0] is node:
                loops.write(self, loop)
        elif isinstance(node.op, Scan) and not isinstance(node.op, FusedScan) and alive:
            from archlang.emit.scans import Loop  # a kind of this class

            Loop(self, node, node.op).write()
        elif isinstance(node.op, Select) and alive:
            selects.write(self, node, node.op)
        elif alive:
            self.write(node)
        elif node.label is not None:
            self._declare_only(node)

    def _declare_only(self, node: Node) -> None:
        """A layer whose result nothing reads still has its weights."""
        before = len(self.lines)
        operands = [(name, Term("_", value.type.names)) for name, value in self.operands(node)]
        self.emit(node, Writer(self, node, self.types(node)), operands)
        self.settle()
        del self.lines[before:]

    def input(self, node: Node, op: Input) -> None:
        name = self.scope.pick(op.port)
        self.draft.signature.append(name)
        self.hold((node.id, 0), Term(name, self.orders[op.port]), pending=False)

    def write(self, node: Node) -> None:
        """Emit a node: statements that it needs, then its results, bound to names or kept to be written in place."""
        if node.id in self.tables.found:
            self.tables.write(self, node)
            return
        start = len(self.lines)
        operands = self.operands(node)
        slots = [self.slot(i, value) for i, (_, value) in enumerate(operands)]
        writer = self.writer(self, node, self.types(node))
        results = self.emit(node, writer, list(zip([name for name, _ in operands], slots, strict=True)))
        results = [writer.views.get((term.code, term.order), term) for term in results]
        read, wanted = [value for _, value in operands], [node.name] if node.name else []
        codes = self.fill(start, read, [term.code for term in results], wanted)
        tight = [self._tight(term, read) for term in results]
        for value in read:
            self.use(value)
        results = [replace(term.filled(code), tight=t) for code, term, t in zip(codes, results, tight, strict=True)]
        self.keep(node, calls.results(self, node, node.op, results[0].code) if isinstance(node.op, Call) else results)

    def temporarily(self, *hints: str) -> str:
        """A new variable, held until the node at hand is written."""
        name = self.scope.pick(*hints)
        self.scope.hold([name])
        self._temporary.append(name)
        return name

    def slot(self, i: int, value: Value) -> Term:
        """An operand as operations see it: a variable, or a slot that is filled once the code around it is there."""
        term = self.held[value.node, value.output].term
        return opened(i, term) if self.inline(value) else term

    def _tight(self, term: Term, operands: Sequence[Value]) -> bool:
        """Whether a result is fit for `.method()`; one that is an operand itself where that is."""
        slot = SLOT.fullmatch(term.code)
        if slot is None:
            return term.tight
        value = operands[int(slot[1])]
        return self.held[value.node, value.output].term.tight

    def inline(self, value: Value) -> bool:
        held = self.held[value.node, value.output]
        return held.pending and not is_atom(held.term.code)

    def emit(self, node: Node, writer: Writer, operands: list[tuple[str, Term]]) -> list[Term]:
        op = node.op
        if isinstance(op, Parameter):
            assert node.label is not None
            shape = writer.shape(tuple(axis.size for axis in op.type))
            code = op.init.code(shape, op.type.names, writer.const) if op.init is not None else f"torch.zeros({shape})"
            self.draft.declare(node.label, Declaration("buffers" if op.buffer else "parameters", code))
            return [Term(self.draft.reach(node.label), op.type.names)]
        if isinstance(op, WeightOf):
            return [Term(writer.weight(op.leaf), op.type.names)]
        if isinstance(op, Call):
            return [Term(calls.call(self, node, op, writer, dict(operands)), ())]
        if isinstance(op, Kept) and isinstance(op.op, Call):
            calls.declare(self.draft, node, op.op, self.called[op.op.graph.digest])
            return []
        if isinstance(op, Kept):
            op.op.emit(Writer(self, replace(node, op=op.op, types=op.types), op.given), *op.terms())
            return []
        write = op.resume if self.clock else op.emit
        result = write(writer, *Graph.arguments(op, operands))
        return [result] if isinstance(result, Term) else list(result)

    def unpack(self, node: Node, code: str, orders: Sequence[tuple[str, ...]]) -> tuple[Term, ...]:
        targets = [self.target(node, i) if self.uses[node.id, i] else "_" for i in range(len(orders))]
        self.lines.append(f"{', '.join(targets)} = {code}")
        return tuple(Term(target, tuple(order)) for target, order in zip(targets, orders, strict=True))

    def unpack_list(
        self, node: Node, code: str, items: Sequence[tuple[str, ...]], orders: Sequence[tuple[str, ...]]
    ) -> tuple[Term, ...]:
        name = self.temporarily("parts")
        self.lists[name] = len(items)
        rest = [self.target(node, i) if self.uses[node.id, i] else "_" for i in range(len(items), len(node.types))]
        self.lines.append(f"{', '.join([name, *rest])} = {code}")
        parts = [Term(f"{name}[{i}]", tuple(order)) for i, order in enumerate(items)]
        return (*parts, *(Term(target, tuple(order)) for target, order in zip(rest, orders, strict=True)))

    def target(self, node: Node, output: int) -> str:
        """A variable for one of several results."""
        outputs = node.op.graph.outputs if isinstance(node.op, Call) else []
        label = (node.label or node.op.name).split(".")[0].lstrip("@")
        alone = [name for name, _ in outputs].count("") == 1  # all others have names
        default = (outputs[output][0] if outputs else None) or (label if alone else f"{label}_{output}")
        return self.temporarily(self.graph.name_of(Value(self.graph, node.id, output, node.types[output])) or default)

    def witness(self, node: Node, attribute: str, floating: bool) -> str | None:
        """`x.dtype` or `x.device`: of a named operand, else of what the class has."""
        for _, value in self.operands(node) if node.id >= 0 else ():
            held = self.held[value.node, value.output]
            if (is_float(value.type.dtype) or not floating) and held.term.code.isidentifier():
                return f"{held.term.code}.{attribute}"
        return self.common_witness(attribute, floating)

    def common_witness(self, attribute: str, floating: bool) -> str | None:
        """`x.dtype` or `x.device` of an input (read at the top), else of a weight."""
        return witness.common(self, attribute, floating)

    # ---- names and places
    def bind(self, term: Term, *hints: str) -> Term:
        if is_atom(term.code):
            return term
        name = self.temporarily(*hints)
        self.lines.append(f"{name} = {term.code}")
        return Term(name, term.order)

    def size(self, size: Poly, hint: str) -> str:
        return self.sizes.text(size, lambda number: self.draft.const(number, hint))

    def fill(self, start: int, operands: Sequence[Value], codes: list[str], wanted: Sequence[str]) -> list[str]:
        """Write pending operands in their places; those read twice, or that make a line too long, get a name before."""
        texts = [*self.lines[start:], *codes]
        slots = [(int(i), split) for text in texts for i, split in SLOT.findall(text)]
        found, whole = Counter(i for i, _ in slots), {i for i, split in slots if split}
        if not found:
            return codes
        terms = {slot: self.held[operands[slot].node, operands[slot].output].term for slot in found}
        pending = [slot for slot, count in found.items() if count == 1]
        statements = [self._named(operands, terms, slot, slot in whole) for slot, count in found.items() if count > 1]
        budget = WIDTH - self.indent - max(map(len, wanted), default=6) - 3
        while pending and max(width(place(text, terms.__getitem__)) for text in texts) > budget:
            longest = max(pending, key=lambda slot: width(terms[slot].code))
            pending.remove(longest)
            statements.append(self._named(operands, terms, longest, longest in whole))
        self.lines[start:] = [*statements, *(place(text, terms.__getitem__) for text in self.lines[start:])]
        return [place(code, terms.__getitem__) for code in codes]

    def _named(self, operands: Sequence[Value], terms: dict[int, Term], slot: int, whole: bool) -> str:
        """The statement that names an operand, which its slot then shows; `whole`, as it is before its split."""
        value, key = operands[slot], (operands[slot].node, operands[slot].output)
        split = terms[slot].split if whole else None
        if split:
            self.held[key] = replace(self.held[key], term=terms[slot].whole(terms[slot].order)[0])
        statement = self.baptise(value, *self.hints(value), read=True)
        named = self.held[key].term
        terms[slot] = named.unflatten(split.name, split.members, split.sizes) if split else named
        return statement

    def baptise(self, value: Value, *hints: str, read: bool = False) -> str:
        """Give a pending value a variable and return the statement.

        The axes get a new order where readers want `c` elsewhere, unless one has `read` it as it is.
        """
        held = self.held[value.node, value.output]
        self.scope.release(held.reads)
        name = self.scope.pick(*hints)
        self.scope.hold([name])
        order = held.term.order
        wish = layout.wish(value, lambda call, port: self.called[call.graph.digest].inputs.get(port))
        if wish and not read:
            moved = "c" if "c" in order else wish[-1]
            order = wish if wish.index(moved) != order.index(moved) else order
        term = Writer(self, self.graph.node(value.node), ()).permute(held.term, order)
        self.held[value.node, value.output] = Held(Term(name, order), held.uses, (name,), pending=False)
        return f"{name} = {term.code}"

    def hints(self, value: Value) -> list[str]:
        """Names for a value, the best first."""
        held = self.held.get((value.node, value.output))
        return hints.hints(self.graph, value, held.reads if held else ())

    def hold(self, key: tuple[int, int], term: Term, pending: bool, uses: int | None = None) -> None:
        """Keep a value for those that read it."""
        reads = self.scope.reads(term.code)
        self.scope.hold(reads)
        self.held[key] = Held(term, self.uses[key] if uses is None else uses, reads, pending)

    def use(self, value: Value) -> None:
        held = self.held[value.node, value.output]
        held.uses -= 1
        if held.uses == 0:
            self.scope.release(held.reads)

    def settle(self) -> None:
        """The names that a node bound on the way live on only where its results read them."""
        self.scope.release(self._temporary)
        self._temporary = []

    def keep(self, node: Node, results: list[Term]) -> None:
        """Hold the results of a node: named where the user named it or several read it, else as an expression."""
        for i, term in enumerate(results):
            key = (node.id, i)
            if self.uses[key]:
                self.hold(key, term, pending=True)
        self.settle()
        for i in range(len(results)):
            held = self.held.get((node.id, i))
            if held is not None and not is_atom(held.term.code) and self._deserves_name(node, held):
                value = Value(self.graph, node.id, i, node.types[i])
                self.lines.append(self.baptise(value, *self.hints(value)))

    def _deserves_name(self, node: Node, held: Held) -> bool:
        if held.uses == 1 and held.term.split and is_atom(held.term.split.code):  # it has one, and is split where read
            return False
        last = held.uses == 1 and any(value.node == node.id for _, value in self.graph.outputs)
        return held.uses > 1 or (node.name is not None and not last)

    # ---- the end
    def returned(self) -> list[Value]:
        """What `return` gives: a model all its outputs, a block each value once."""
        values = [value for _, value in self.graph.outputs]
        return values if self.root else list(dict.fromkeys(values))

    def finish(self) -> None:
        """`return`, with the results in the order that callers expect."""
        values = self.returned()
        if not values:  # a block that only holds weights
            return
        if not self.graph.exits:
            training.losses(self)
        node = Node(-1, Input(port="", type=values[0].type), ())
        writer = Writer(self, node, ())
        start = len(self.lines)
        terms = []
        for i, value in enumerate(values):
            term = self.slot(i, value)
            terms.append(writer.permute(term, self._order(value, term)))
        if self.root and self.clock:
            codes = decoding.end(self, start, values, terms)
        else:
            codes = self.fill(start, values, [", ".join(term.code for term in terms)], ["return"])
        self.draft.orders = [term.order for term in terms]
        self.draft.of = tuple(values.index(value) for _, value in self.graph.outputs) if not self.root else ()
        self.draft.results = len(values)
        self.lines.append(f"return {', '.join(codes)}")
        self.draft.inputs = self.orders
        self.draft.extra = list(self.sizes.extra)
        tensors, modules, whole = self.draft.signature, self.ports.values(), self.sizes.extra.values()
        self.draft.signature = [
            f"{n}: {t}"
            for group, t in ((tensors, "torch.Tensor"), (modules, "nn.Module"), (whole, "int"))
            for n in group
        ]
        self.draft.forward = [*head.lines(self), *self.lines]

    def _order(self, value: Value, term: Term) -> tuple[str, ...]:
        if self.root:
            return value.type.names
        orders = [order for order in self.orders.values() if set(order) == set(term.order)]
        return term.order if term.order in orders else next(iter(orders), term.order)
