"""Modules that only evaluate: `derive` works out once what their weights determine, and keeps it as buffers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from archlang import helpers
from archlang.analysis.determined import derived, determined
from archlang.emit import names
from archlang.emit.calls import Port
from archlang.emit.draft import Declaration, Draft
from archlang.emit.forward import Forward
from archlang.emit.scope import Held, Scope
from archlang.emit.witness import of_weights
from archlang.emit.writer import Writer
from archlang.ir import Node, Value
from archlang.primitive import Term
from archlang.shapes import is_float


class Wide(Writer):
    """Writes a node whose weights are read in float32 at least."""

    def module(self, constructor: str, *arguments: str, **named: str) -> str:
        return f"{self.helper('wide')}({super().module(constructor, *arguments, **named)})"

    def weight(self, leaf: str) -> str:
        return f"{self.helper('wide')}({super().weight(leaf)})"


class Derived(Forward):
    """Writes `derive` for a graph."""

    writer = Wide

    def __init__(self, outer: Forward, called: Mapping[str, Port]) -> None:
        self.root, self.conditions, self.orders, self.stored, self.clock = False, (), {}, {}, None
        self.draft, self.sizes, self.witnesses = outer.draft, outer.sizes, {}
        self.scope = Scope(helpers.known())
        self.results = derived(outer.graph)
        self.known = determined(outer.graph)
        self.begin(outer.graph, called, self.results)

    def operands(self, node: Node) -> list[tuple[str, Value]]:
        return [] if node.op.by_type else super().operands(node)

    def types(self, node: Node) -> list[Any]:
        return self.graph.input_types(node)

    def every(self) -> dict[int, dict[int, Term]]:
        """The results by node, as `forward` reaches them."""
        made: dict[int, dict[int, Term]] = {}
        for node in self.graph if self.results else ():
            if node.id in self.known:
                self.visit(node)
                for value in (value for value in self.results if value.node == node.id):
                    made.setdefault(node.id, {})[value.output] = self.keep_result(value)
        self.draft.derive = [*(line for _, line in self.witnesses.values()), *self.lines]
        return made

    def keep_result(self, value: Value) -> Term:
        """`self.scale = ...`, in the precision of the weights, and how `forward` reaches it."""
        label = self.draft.spare_label(names.field(self.hints(value)[0]))
        self.draft.declare(label, Declaration("buffers", "None", persistent=False))
        path, start = self.draft.reach(label), len(self.lines)
        term = self.slot(0, value)
        narrow = f"{term.safe}.to({self.narrow()})" if value.type.dtype == "float" else term.code
        (code,) = self.fill(start, [value], [narrow], [path])
        self.lines.append(f"{path} = {code}")
        self.use(value)
        return Term(path, term.order)

    def _deserves_name(self, node: Node, held: Held) -> bool:
        """What `self` keeps has a name there."""
        stored = held.uses == 1 and any(value.node == node.id for value in self.results)
        return not stored and super()._deserves_name(node, held)

    def narrow(self) -> str:
        """The dtype that the weights have."""
        return self.noted("dtype", f"{self.origin()}.dtype")

    def noted(self, name: str, code: str) -> str:
        """A variable that is set at the top."""
        if name not in self.witnesses:
            variable = self.scope.fix(name)
            self.witnesses[name] = (variable, f"{variable} = {code}")
        return self.witnesses[name][0]

    def emit(self, node: Node, writer: Writer, operands: list[tuple[str, Term]]) -> list[Term]:
        if node.op.by_type:  # it looks at types alone
            operands = [(name, Term("_", value.type.names)) for name, value in self.graph.operands(node)]
        made = super().emit(node, writer, operands)
        if node.op.name == "param" and is_float(node.types[0].dtype):
            return [Term(f"{writer.helper('wide')}({term.code})", term.order) for term in made]
        return made

    def common_witness(self, attribute: str, floating: bool) -> str | None:
        if attribute == "device":
            return f"{self.origin()}.device"
        return self.noted("exact", f"{self.draft.need_helper('wide')}({self.origin()}).dtype")

    def origin(self) -> str:
        """A weight, or a table of numbers, whose dtype and device all have."""
        tables = (label for label, made in self.draft.declarations.items() if made.kind == "buffers")
        return of_weights(self) or self.draft.reach(next(tables))


def arrange(draft: Draft) -> None:
    """Bring what `__init__` makes into the order of the state_dict."""
    rank = {label: i for i, (label, _, _) in enumerate(draft.graph.makers())}
    draft.declarations = dict(sorted(draft.declarations.items(), key=lambda item: rank.get(item[0], len(rank))))


def sources(lines: Iterable[str]) -> list[str]:
    """The modules whose weights `derive` reads."""
    read = re.findall(r"\bwide\((self[^()]*)\)(?!\()", "\n".join(lines))
    called = re.findall(r"\bwide\((self[^()]*)\)(?=\()", "\n".join(lines))
    held = [path.rpartition(".")[0] for path in read]
    return sorted({*called, *held} - {"self"})


def settle(draft: Draft, root: bool, decodes: bool) -> None:
    """What a class needs that keeps such values, and the class of the whole network."""
    if draft.derive or root:
        draft.base = draft.need_helper("Resumable" if root and decodes else "Folded")
    if draft.derive:
        draft.init.append(f"self.derive_from({', '.join(sources(draft.derive))})")
    if root:
        draft.init.append("self.requires_grad_(False).eval()")
    if root and decodes:
        draft.init.append("self.reset()")
