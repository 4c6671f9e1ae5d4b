"""Calls of the modules `blocks.0`, `blocks.1` ... as one `for` over a list of modules."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archlang.emit import calls, names
from archlang.emit.calls import Port
from archlang.emit.scope import is_atom, sequence
from archlang.emit.writer import Writer
from archlang.ir import Call, Graph, Node, Value
from archlang.primitive import Term
from archlang.sizes import symbol

if TYPE_CHECKING:
    from archlang.emit.forward import Forward

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Loop:
    """A run of calls, and what each of their inputs is from one to the next."""

    base: str
    calls: list[Node]
    ports: list[Port]
    carried: dict[int, int]  # place of the input -> tensor that the call before returned
    fixed: list[int]  # places of inputs that stay the same
    each: list[int]  # places of inputs that have a value of their own each time
    operands: list[list[Value]]  # of each call, by place
    kept: list[int]  # returned tensors that are read later, not only those of the last call


def runs(graph: Graph) -> dict[str, list[Node]]:
    """The calls of each list of modules, in order."""
    found: dict[str, list[Node]] = {}
    for node in graph:
        if isinstance(node.op, Call) and node.label and "." in node.label and not node.label.startswith("@"):
            found.setdefault(node.label.split(".")[0], []).append(node)
    return found


def _in_front(nodes: list[Node]) -> bool:
    """Whether those that are recomputed come before the others."""
    again = [isinstance(node.op, Call) and node.op.recomputed for node in nodes]
    return again == sorted(again, reverse=True)


def find(graph: Graph, called: Mapping[str, Port], uses: Counter[Key]) -> Iterator[Loop]:
    """The runs of a graph that can be written as loops."""
    place = {node.id: i for i, node in enumerate(graph)}
    for base, nodes in runs(graph).items():
        if [node.label for node in nodes] == [f"{base}.{i}" for i in range(len(nodes))] and _in_front(nodes):
            loop = _loop(
                graph, base, nodes, [called[node.op.graph.digest] for node in nodes if isinstance(node.op, Call)], uses
            )
            if loop is not None and _ready(loop, place):
                yield loop


def _ready(loop: Loop, place: Mapping[int, int]) -> bool:
    """Whether all that the calls read is there before the first of them."""
    outside = [
        value for i, row in enumerate(loop.operands) for p, value in enumerate(row) if p not in loop.carried or i == 0
    ]
    return all(place[value.node] < place[loop.calls[0].id] for value in outside)


def _loop(graph: Graph, base: str, nodes: list[Node], ports: list[Port], uses: Counter[Key]) -> Loop | None:
    operands = [[value for _, value in graph.operands(node)] for node in nodes]
    first = ports[0]
    alike = all(
        list(p.inputs.items()) == list(first.inputs.items())
        and (p.outputs, p.of, p.extra) == (first.outputs, first.of, first.extra)
        and n.op.layers == nodes[0].op.layers and set(p.inputs) == {name for name, _ in graph.operands(n)}
        for p, n in zip(ports, nodes, strict=True) if isinstance(n.op, Call) and isinstance(nodes[0].op, Call)
    )  # fmt: skip
    if not alike or any(len(row) != len(first.inputs) for row in operands):
        return None
    carried, fixed, each = {}, [], []
    for p, (name, order) in enumerate(first.inputs.items()):
        column = [row[p] for row in operands]
        if (tensor := _carried(graph, nodes, ports, column, name)) is not None and first.outputs[tensor] == order:
            carried[p] = tensor
        elif len(set(column)) == 1:
            fixed.append(p)
        else:
            each.append(p)
    return Loop(base, nodes, ports, carried, fixed, each, operands, _kept(nodes, first, carried, operands, uses))


def _carried(graph: Graph, nodes: list[Node], ports: list[Port], column: list[Value], name: str) -> int | None:
    """Which tensor of the call before an input is. A lone call carries what it gives back under the same name."""
    of = ports[0].of
    if len(nodes) == 1:
        assert isinstance(nodes[0].op, Call)
        found = [
            of[i]
            for i, (output, value) in enumerate(nodes[0].op.graph.outputs)
            if output == name and set(value.type.names) == set(column[0].type.names)
        ]
        return found[0] if found else None
    sources = {
        of[value.output] if value.node == before.id else None for before, value in zip(nodes, column[1:], strict=False)
    }
    return sources.pop() if len(sources) == 1 else None


def _kept(
    nodes: list[Node], port: Port, carried: dict[int, int], operands: list[list[Value]], uses: Counter[Key]
) -> list[int]:
    used = Counter((value.node, value.output) for row in operands[1:] for p, value in enumerate(row) if p in carried)
    kept = {port.of[o] for node in nodes[:-1] for o in range(len(port.of)) if uses[node.id, o] > used[node.id, o]}
    return sorted(kept)


# ---- writing
def write(body: "Forward", loop: Loop) -> None:
    """The statements of a loop."""
    for node, port in zip(loop.calls, loop.ports, strict=True):
        assert isinstance(node.op, Call)
        calls.declare(body.draft, node, node.op, port)
    before, given, loop_names, sources = _inputs(body, loop)
    module = body.scope.pick(names.singular(loop.base))
    results, lists = _results(body, loop, given)
    counter, again = _recomputed(body, loop)
    head = _head(body, loop, [module, *loop_names], sources, counter)
    assert isinstance(loop.calls[0].op, Call)
    lent = [body.draft.reach(label) for _, label in loop.calls[0].op.layers]
    told = [body.size(symbol(name), name) for name in loop.ports[0].extra]
    called = calls.applied(body.draft, module, [*given, *lent, *told], again)
    if _is_comprehension(body.graph, loop, lists):
        body.lines += [*before, f"{lists[0]} = [{called} {head.removesuffix(':')}]"]
    else:
        body.lines += [*before, *(f"{name} = []" for name in lists.values()), head]
        body.lines.append(f"    {', '.join(results)} = {called}")
        body.lines += [f"    {name}.append({results[tensor]})" for tensor, name in lists.items()]
    body.scope.release([*loop_names, *(name for p, name in enumerate(given) if p in loop.carried)])
    _hold(body, loop, results, lists)
    body.settle()


def _head(body: "Forward", loop: Loop, variables: list[str], sources: list[str], counter: str) -> str:
    """`for block in self.blocks:`, with what else runs along and maybe a counter."""
    source = f"self.{loop.base}" if names.is_attribute(loop.base) else body.draft.reach(loop.base)
    source = f"zip({source}, {', '.join(sources)})" if sources else source
    if not counter:
        return f"for {', '.join(variables)} in {source}:"
    inner = f"({', '.join(variables)})" if len(variables) > 1 else variables[0]
    return f"for {counter}, {inner} in enumerate({source}):"


def _recomputed(body: "Forward", loop: Loop) -> tuple[str, str]:
    """A counter, if the first few calls alone are made again in the backward pass, and when a call is."""
    count = sum(isinstance(node.op, Call) and node.op.recomputed for node in loop.calls)
    if count in (0, len(loop.calls)):
        return "", "self.training" if count else ""
    counter = body.scope.pick("i")
    return counter, f"self.training and {counter} < {body.draft.const(count, 'recomputed')}"


def _inputs(body: "Forward", loop: Loop) -> tuple[list[str], list[str], list[str], list[str]]:
    """Statements before the loop, the arguments in it, its variables and what they run over."""
    orders = list(loop.ports[0].inputs.items())
    given = [""] * len(orders)
    variables, sources = [], []
    rows = [
        value for i, row in enumerate(loop.operands) for p, value in enumerate(row) if i == 0 or p not in loop.carried
    ]
    terms = {
        value: _named(body, value, orders[p][1])
        for p in (*loop.fixed, *loop.each)
        for value in {row[p]: None for row in loop.operands}
    }
    initial = {p: _expression(body, loop.operands[0][p], orders[p][1]) for p in loop.carried}
    body.scope.hold(reads := [name for code in terms.values() for name in body.scope.reads(code)])
    for value in rows:
        body.use(value)
    before: list[str] = []
    for p in loop.fixed:
        given[p] = terms[loop.operands[0][p]]
    for p in loop.each:
        source = sequence([terms[row[p]] for row in loop.operands], body.lists)
        given[p] = body.scope.pick(names.singular(source) if source in body.lists else orders[p][0])
        body.scope.hold([given[p]])
        variables.append(given[p])
        sources.append(source)
    for p, code in initial.items():
        if code.isidentifier() and body.scope.free(code):
            given[p] = code
        else:
            given[p] = body.scope.pick(_final(body, loop, p) or orders[p][0])
            before.append(f"{given[p]} = {code}")
        body.scope.hold([given[p]])
    body.scope.release(reads)
    return before, given, variables, sources


def _final(body: "Forward", loop: Loop, p: int) -> str | None:
    """The user's name of what a carried input ends as."""
    last = loop.calls[-1]
    output = loop.ports[-1].of.index(loop.carried[p])
    return body.graph.name_of(Value(body.graph, last.id, output, last.types[output]))


def _expression(body: "Forward", value: Value, order: tuple[str, ...]) -> str:
    """A value in an order of axes."""
    return Writer(body, body.graph.node(value.node), ()).permute(body.held[value.node, value.output].term, order).code


def _named(body: "Forward", value: Value, order: tuple[str, ...]) -> str:
    """A name for a value in an order of axes."""
    if body.inline(value):
        body.lines.append(body.baptise(value, *body.hints(value)))
    code = _expression(body, value, order)
    return code if is_atom(code) else body.bind(Term(code, order), *body.hints(value)).code


def _results(body: "Forward", loop: Loop, given: list[str]) -> tuple[list[str], dict[int, str]]:
    """What the call in the loop is bound to, and the lists that keep it."""
    node, port = loop.calls[-1], loop.ports[0]
    carried = {tensor: given[p] for p, tensor in loop.carried.items()}
    results, lists = [], {}
    for tensor in range(len(port.outputs)):
        outputs = [i for i, t in enumerate(port.of) if t == tensor]
        assert isinstance(node.op, Call)
        own = next((name for i in outputs if (name := node.op.graph.outputs[i][0])), names.singular(loop.base))
        read = tensor in loop.kept or any(body.uses[node.id, i] for i in outputs)
        results.append(
            carried.get(tensor)
            or (body.scope.pick(names.singular(own) if tensor in loop.kept else own) if read else "_")
        )
        if tensor not in carried and read:
            body.scope.hold([results[-1]])
        if tensor in loop.kept:
            extra = next(
                (name for i in reversed(outputs) if (name := node.op.graph.outputs[i][0]) and name != own),
                own if names.singular(own) != own else f"{own}s",
            )
            lists[tensor] = body.scope.pick(extra)
            body.scope.hold([lists[tensor]])
            body.lists[lists[tensor]] = len(loop.calls)
    body.scope.release([name for t, name in enumerate(results) if name != "_" and t not in carried])
    return results, lists


def _hold(body: "Forward", loop: Loop, results: list[str], lists: dict[int, str]) -> None:
    """The values of the loop for what comes after it."""
    inner = Counter(
        (value.node, value.output) for row in loop.operands[1:] for p, value in enumerate(row) if p in loop.carried
    )
    of = loop.ports[0].of
    listed = _listed(body.graph, loop)
    for i, node in enumerate(loop.calls):
        for output, tensor in enumerate(of):
            uses = body.uses[node.id, output] - inner[node.id, output]
            if uses <= 0:
                continue
            order = loop.ports[0].outputs[tensor]
            last = i == len(loop.calls) - 1
            code = (
                results[tensor]
                if last and (tensor not in lists or (of.index(tensor) == output and (node.id, output) not in listed))
                else f"{lists[tensor]}[{i}]"
            )
            body.hold((node.id, output), Term(code, order), pending=not code.isidentifier(), uses=uses)
    body.scope.release(lists.values())


def _is_comprehension(graph: Graph, loop: Loop, lists: dict[int, str]) -> bool:
    """Whether a loop does nothing but make one list."""
    alone = not loop.carried and len(loop.ports[0].outputs) == len(lists) == 1
    return alone and len(_listed(graph, loop)) == len(loop.calls)


def _listed(graph: Graph, loop: Loop) -> set[Key]:
    """The values of the loop that are written as one list where they are read."""
    found = {(value.node, value.output) for values in graph.losses.values() for value in values}
    for node in loop.calls:
        values = [Value(graph, node.id, i, type_) for i, type_ in enumerate(node.types)]
        found |= {(v.node, v.output) for v in values if any(user.op.listed for user, _ in graph.users(v))}
    return found
