"""What an operation may ask of the writer of a module: `archlang.primitive.Emission` for one node of one draft."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from archlang.emit import decoding, marks, names
from archlang.emit.draft import Declaration, Draft
from archlang.emit.hints import becoming
from archlang.emit.scope import sequence
from archlang.emit.switches import width
from archlang.ir import Graph, Node
from archlang.primitive import Primitive, Term
from archlang.shapes import Axis, TensorType
from archlang.sizes import Poly, Size

_MAP = ("space", "time")
_LONG = 75  # of an expression that a method is called on


class Body(Protocol):
    """What the body of a `forward` does for the nodes in it."""

    graph: Graph
    draft: Draft
    called: Mapping[str, Any]  # Port by digest
    clock: str | None  # the free size that counts positions of time, in a module that decodes
    uses: Counter[tuple[int, int]]  # how often each value is read
    lines: list[str]
    lists: dict[str, int]  # the variables that are lists, with their lengths

    def size(self, size: Poly, hint: str) -> str:
        """A symbolic size as code."""

    def bind(self, term: Term, *hints: str) -> Term:
        """A variable for a value."""

    def unpack(self, node: Node, code: str, orders: Sequence[tuple[str, ...]]) -> tuple[Term, ...]:
        """Variables for the results of a node that come as a tuple."""

    def unpack_list(
        self, node: Node, code: str, items: Sequence[tuple[str, ...]], orders: Sequence[tuple[str, ...]]
    ) -> tuple[Term, ...]:
        """Variables for a list of results and those after it."""

    def target(self, node: Node, output: int) -> str:
        """A variable for one of several results."""

    def witness(self, node: Node, attribute: str, floating: bool) -> str | None:
        """`x.dtype` or `x.device` of some tensor at hand."""


class Writer:
    """Writes one node of a body."""

    def __init__(self, body: Body, node: Node, inputs: Iterable[Any]) -> None:
        self.inputs: tuple[Any, ...] = tuple(inputs)
        self.outputs: tuple[TensorType, ...] = node.types
        self.views: dict[tuple[str, tuple[str, ...]], Term] = {}  # what a permuted term was before
        self._body, self._draft, self._node = body, body.draft, node
        self._label = node.label
        self._hint = (node.label or node.op.name).split(".")[0].lstrip("@")

    def standing_in(self, op: Primitive, *inputs: Any) -> "Writer":
        return Writer(self._body, replace(self._node, op=op), inputs)

    # ---- numbers
    def const(self, value: Any) -> str:
        return self._draft.const(value, self._hint)

    def option(self, value: Any, default: Any) -> str:
        return "" if value == default else f", {self.const(value)}"

    def size(self, size: Size) -> str:
        return self._body.size(size, self._hint) if isinstance(size, Poly) else self.const(size)

    # ---- axes
    def permute(self, term: Term, order: Iterable[str]) -> Term:
        order = tuple(order)
        assert set(order) == set(term.order), f"{self._node.op}: {order} is no order of {term.order}"
        term = self.views.get((term.code, term.order), term)
        if order == term.order:
            return term
        if term.split and (whole := term.whole(order))[0] is not term:
            split = term.split
            result = self.permute(*whole).unflatten(split.name, split.members, split.sizes)
            self.views[result.code, order] = term
            return result
        places = [term.order.index(name) for name in order]
        moved = [i for i, place in enumerate(places) if i != place]
        text = f"transpose({moved[0]}, {moved[1]})" if len(moved) == 2 else f"permute({', '.join(map(str, places))})"
        result = Term(f"{self._receiver(term)}.{text}", order)
        self.views[result.code, order] = term
        return result

    def last(self, term: Term, names: Iterable[str]) -> Term:
        names = tuple(names)
        return self.permute(term, (*(name for name in term.order if name not in names), *names))

    def flat(self, term: Term, names: Iterable[str], name: str) -> Term:
        names = tuple(names)
        if not names:
            return Term(f"{term.safe}.unsqueeze(-1)", (*term.order, name))
        term, names = self.last(term, names).whole(names)
        kept = term.order[: len(term.order) - len(names)]
        if len(names) == 1:
            return Term(term.code, (*kept, name), term.tight)
        return Term(f"{self._receiver(term)}.flatten({len(kept) or ''})", (*kept, name))

    def split(self, term: Term, name: str, axes: Iterable[Axis]) -> Term:
        axes, place = tuple(axes), term.order.index(name)
        if len(axes) > 1:
            receiver = Term(self._receiver(term), term.order, split=term.split)
            return receiver.unflatten(name, [axis.name for axis in axes], self._sizes(axes))
        order = (*term.order[:place], *(axis.name for axis in axes), *term.order[place + 1 :])
        if not axes:
            return Term(f"{term.safe}.squeeze({term.at(name)})", order)
        split = term.split and replace(
            term.split, members=tuple(order[term.order.index(n)] for n in term.split.members)
        )
        return Term(term.code, order, term.tight, split)

    def _receiver(self, term: Term) -> str:
        """What a method is called on; long expressions get a name first."""
        return self.bind(term, self._hint).safe if width(term.code) > _LONG else term.safe

    def _sizes(self, axes: tuple[Axis, ...]) -> str:
        """The sizes as a tuple. A lone symbolic one is `-1`, as is the number of pieces that a map is cut into."""
        free = [axis for axis in axes if isinstance(axis.size, Poly)] or [a for a in axes[:1] if a.role in _MAP]
        return f"({', '.join('-1' if free == [axis] else self.size(axis.size) for axis in axes)})"

    def align(self, *terms: Term) -> tuple[Term, ...]:
        order = list(max(terms, key=lambda term: len(term.order)).order)
        for term in terms:
            for i, name in enumerate(term.order):
                if name not in order:  # right after the axis before it in its own term
                    order.insert(order.index(term.order[i - 1]) + 1 if i else 0, name)
        return tuple(self._spread(term, tuple(order)) for term in terms)

    def _spread(self, term: Term, order: tuple[str, ...]) -> Term:
        """The term with axes of size 1 where it lacks axes that `order` has after its first."""
        term = self.permute(term, [name for name in order if name in term.order])
        if not term.order:
            return Term(term.code, order, term.tight)
        index = [":" if name in term.order else "None" for name in order[order.index(term.order[0]) :]]
        if "None" not in index:
            return Term(term.code, order, term.tight)
        while len(index) > 1 and index[-1] == ":" and "None" in index[:-1]:
            index.pop()
        runs = [i for i, item in enumerate(index) if item == "None"]
        if runs[0] == len(index) - len(runs) and runs[0] > 1 and order[-1] not in term.order:  # only at the end
            index = ["...", *["None"] * len(runs)]
        return Term(f"{term.safe}[{', '.join(index)}]", order)

    # ---- modules and weights
    def module(self, constructor: str, *arguments: str, **named: str) -> str:
        if not constructor.startswith("nn."):
            constructor = self.helper(constructor)
        code = f"{constructor}({', '.join([*arguments, *(f'{name}={value}' for name, value in named.items())])})"
        if self._label is None:
            self._label = self._draft.spare_label(self._node.op.name)
        self._draft.declare(self._label, Declaration("modules", code))
        return self._draft.reach(self._label)

    def weight(self, leaf: str) -> str:
        assert self._label is not None
        return f"{self._draft.reach(self._label)}{names.path(leaf)}"

    def initialise(self, leaf: str, init: Any) -> None:
        if init is None:
            return
        assert self._label is not None
        declaration = self._draft.declarations[self._label]
        if leaf in dict(declaration.starts):
            return
        param = self._node.op.params(*self.inputs)[leaf]
        declaration.starts.append((leaf, init.code(self.shape(param.shape), param.names, self.const)))

    def shape(self, shape: tuple[Size, ...]) -> str:
        """The text of a shape."""
        return f"({', '.join(map(self.size, shape))}{',' if len(shape) == 1 else ''})"

    def buffer(self, hint: str, code: str) -> str:
        for label, declaration in self._draft.declarations.items():
            if not declaration.persistent and self._plain(declaration.code) == self._plain(code):
                return self._draft.reach(label)
        label = self._draft.spare_label(hint)
        self._draft.declare(label, Declaration("buffers", code, persistent=False))
        return self._draft.reach(label)

    def _plain(self, code: str) -> str:
        """Code with its constants."""
        return marks.substitute(code, lambda mark: repr(self._draft.values[mark]))

    def helper(self, name: str) -> str:
        kernels = self._draft.kernels
        return self._draft.need_helper(kernels.name(name, self._node.op, self.inputs) if kernels else name)

    def kernel(self, helper: str) -> bool:
        kernels = self._draft.kernels
        return kernels is not None and kernels.name(helper, self._node.op, self.inputs) != helper

    def bind(self, term: Term, hint: str, part: bool = False) -> Term:
        return self._body.bind(term, *([] if part else becoming(self._body.graph, self._node)), hint)

    def unless_zero(self, value: Any, term: Term, code: str) -> Term:
        before, after = code.split(term.code, 1)
        switch = self._draft.mark(marks.plain(value), self._hint)
        return Term(f"{marks.IF}{switch}{before}{marks.THEN}{term.code}{marks.THEN}{after}{marks.END}", term.order)

    def unpack(self, code: str, *orders: tuple[str, ...]) -> tuple[Term, ...]:
        return self._body.unpack(self._node, code, orders)

    def unpack_list(self, code: str, items: Sequence[tuple[str, ...]], *orders: tuple[str, ...]) -> tuple[Term, ...]:
        return self._body.unpack_list(self._node, code, items, orders)

    def sequence(self, terms: Iterable[Term]) -> str:
        return sequence([term.code for term in terms], self._body.lists)

    def working(self) -> str:
        return self._body.witness(self._node, "dtype", True) or "torch.get_default_dtype()"

    def past(self, axis: Axis) -> str:
        return decoding.past(self._body, axis.size)

    def carried(self, hint: str, constructor: str, *shape: Size | None, along: Axis | None = None) -> str:
        given = [self.const(size if isinstance(size, int) else None) for size in shape]
        pace = decoding.pace(self._body, along.size) if along else 1
        given += [] if pace == 1 else [f"pace={self.const(pace)}"]
        text = f"{self.helper(constructor)}({', '.join(given)})"
        label = self._draft.spare_label(hint)
        self._draft.declare(label, Declaration("modules", text))
        return self._draft.reach(label)

    def device(self) -> str:
        return self._body.witness(self._node, "device", False) or "torch.get_default_device()"
