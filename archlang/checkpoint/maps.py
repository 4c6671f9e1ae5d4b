"""`checkpoint NAME { ours = theirs }` compiled against the weights of a network.

Ours is a weight, or a layer with all of its weights under PyTorch's leaf names; index variables run over what exists.
Theirs is a key with `{...}`, or an adapter of keys.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from archlang import syntax
from archlang.checkpoint.adapters import (
    Adapter,
    Concat,
    Flip,
    Key,
    Plus,
    Reorder,
    Reshape,
    Rows,
    Shape,
    Transpose,
    WeightMap,
    misfit,
    some,
)
from archlang.diagnostics import ArchError, Collector, Label, error, suggest
from archlang.elaborate import expressions
from archlang.elaborate.context import Context, Session
from archlang.elaborate.frame import Frame
from archlang.elaborate.limits import MAX_MISTAKES, too_many_mistakes
from archlang.elaborate.models import Elaborated
from archlang.elaborate.scope import Scope
from archlang.ir import Graph
from archlang.parser import parse_expression
from archlang.source import Source, Span

KNOWN = "a map knows the hyper-parameters and the index variables of its entry, and nothing that the body binds"


def names(model: syntax.Model) -> list[str]:
    """The checkpoint maps of a model."""
    return [item.name for item in model.body if isinstance(item, syntax.Checkpoint)]


def compile_map(elaborated: Elaborated, name: str) -> WeightMap:
    """A checkpoint map against the weights of a network. Raises `ArchError` with every entry that fits nothing and
    every weight left out.
    """
    declared = [item for item in elaborated.model.body if isinstance(item, syntax.Checkpoint) and item.name == name]
    if not declared:
        known = names(elaborated.model)
        raise error(
            "A601",
            f"`{elaborated.model.name}` has no checkpoint map `{name}`",
            help=suggest(name, known) or f"it has {', '.join(known) or 'none'}",
        )
    context, weights = _context(elaborated), _shapes(elaborated.graph)
    context.session.budget.nodes = len(weights)  # as many steps for a weight as for an operation
    return _Compiler(context, weights).run(declared[0])


def _context(elaborated: Elaborated) -> Context:
    scope = Scope()
    for hyper, value in elaborated.settings.items():
        scope.define(hyper, value, elaborated.model.name_span, "hyper-parameter")
    return Context(Session(Collector()), elaborated.module, scope, Frame(Graph("checkpoint")))


@dataclass
class _Compiler:
    cx: Context
    weights: dict[str, Shape]
    found: dict[str, tuple[int, Adapter | None, Span]] = field(
        default_factory=dict
    )  # by our key, with the length of the entry's path
    without: list[str] = field(default_factory=list)

    def run(self, declared: syntax.Checkpoint) -> WeightMap:
        collector = Collector()
        for entry in declared.entries:
            with collector.catch(), _of_a_map():
                self.entry(entry)
            if len(collector.errors) >= MAX_MISTAKES:
                raise ArchError(*collector.found, *too_many_mistakes(entry.span).diagnostics)
        if not collector.errors and (left := [key for key in self.weights if key not in self.found]):
            title = f"the map `{declared.name}` leaves out {some(left)}"
            collector.add(
                *error(
                    "A603",
                    title,
                    declared.span,
                    help="map them, or write `WEIGHT = none` where the checkpoint has none",
                ).diagnostics
            )
        collector.check()
        reads = {
            key: (adapter, span)
            for key in self.weights
            for _, adapter, span in [self.found[key]]
            if adapter is not None
        }
        for failure in [*_used_twice(reads), *self.misfits(reads)]:
            collector.add(*failure.diagnostics)
        collector.check()
        own = frozenset(key for key, (_, adapter, _) in self.found.items() if adapter is None)
        return WeightMap(declared.name, reads, tuple(self.without), own)

    def misfits(self, reads: Mapping[str, tuple[Adapter, Span]]) -> Iterator[ArchError]:
        """The adapters that cannot make the weight that they are for, whatever the checkpoint holds."""
        for key, (adapter, span) in reads.items():
            if why := misfit(adapter, shape := self.weights[key]):
                yield error("A606", f"`{key}` has the shape {list(shape)}, and {why}", span)

    def entry(self, entry: syntax.Entry) -> None:
        if isinstance(entry.ours, syntax.Constant) and entry.ours.value is None:
            self.without.append(self.text(entry.theirs, self.cx))
            return
        pattern, variables = self.pattern(entry.ours)
        matched = False
        for key in self.weights:
            if (match := pattern.match(key)) is None:
                continue
            matched = True
            cx = self.cx.inner(scope=Scope(self.cx.scope))
            for variable in variables:
                cx.scope.define(variable, int(match[variable]), entry.span, "index")
            self.claim(key, entry, _length(entry.ours), self.adapter(entry.theirs, cx, key[match.end() :]))
        # what neither side has may be said: `head = none if tied else "lm_head"`
        cx = self.cx.inner(scope=Scope(self.cx.scope))
        for variable in variables:
            cx.scope.define(variable, 0, entry.span, "index")
        if not matched and self.adapter(entry.theirs, cx, "") is not None:
            last = next(iter(_words(entry.ours)), "")
            raise error(
                "A602",
                f"no weight is called `{entry.ours.span.text}`",
                entry.ours.span,
                help=suggest(last, {part for key in self.weights for part in key.split(".")})
                or "`none if ... else ...` maps what only some variants have",
            )

    def claim(self, key: str, entry: syntax.Entry, length: int, adapter: Adapter | None) -> None:
        """The entry with the longest path decides; two of one length are an error."""
        known = self.found.get(key)
        if known is not None and known[0] == length:
            raise error(
                "A603", f"`{key}` is mapped twice", Label(entry.span, "again here"), Label(known[2], "first here")
            )
        if known is None or known[0] < length:
            self.found[key] = (length, adapter, entry.span)

    def pattern(self, ours: syntax.Expr) -> tuple[re.Pattern[str], list[str]]:
        """A path of ours as a pattern over the names of weights, and its index variables."""
        variables: list[str] = []
        text = "".join(self._segment(part, variables) for part in _path(ours))
        return re.compile(rf"{text.removeprefix(re.escape('.'))}(?=\.|$)"), variables

    def _segment(self, part: Any, variables: list[str]) -> str:
        if isinstance(part, str):
            return re.escape(f".{part}")
        if isinstance(part, syntax.Name) and self.cx.scope.find(part.id) is None:
            if part.id in variables:
                return rf"\.(?P={part.id})"
            variables.append(part.id)
            return rf"\.(?P<{part.id}>\d+)"
        return rf"\.{expressions.whole(self.cx, part)}"

    # ---- theirs
    def adapter(self, expr: syntax.Expr, cx: Context, rest: str) -> Adapter | None:
        if isinstance(expr, syntax.IfElse):
            return self.adapter(expr.then if expressions.truth(cx, expr.condition) else expr.otherwise, cx, rest)
        if isinstance(expr, syntax.Constant) and expr.value is None:
            return None
        return self.made(expr, cx, rest)

    def made(self, expr: syntax.Expr, cx: Context, rest: str) -> Adapter:
        if isinstance(expr, syntax.String):
            return Key((self.text(expr, cx) + rest).removeprefix("."))  # of `""`, their root
        if isinstance(expr, syntax.Binary) and expr.op in "+-":
            number = expressions.number(cx, expr.right)
            return Plus(self.made(expr.left, cx, rest), float(number) * (1 if expr.op == "+" else -1))
        if isinstance(expr, syntax.Call) and isinstance(expr.function, syntax.Name) and expr.function.id in _ADAPTERS:
            return self.call(expr, expr.function.id, cx, rest)
        raise error(
            "A607",
            "an entry maps to a key, to an adapter of keys, or to `none`",
            expr.span,
            help=f"adapters are {', '.join(_ADAPTERS)}",
        )

    def call(self, expr: syntax.Call, name: str, cx: Context, rest: str) -> Adapter:
        if not expr.arguments or any(argument.name for argument in expr.arguments):
            raise error("A607", f"`{name}` takes a key and positional numbers", expr.span)
        first, *others = (argument.value for argument in expr.arguments)
        values = [expressions.evaluate(cx, value) for value in others]
        try:
            if name == "concat":
                if not isinstance(first, syntax.List):
                    raise TypeError
                return Concat(
                    tuple(self.made(item.value, cx, rest) for item in first.items), _ints(values[0]) if values else None
                )
            return _ADAPTERS[name](self.made(first, cx, rest), *values)
        except (TypeError, IndexError):
            raise error(
                "A607", f"`{expr.span.text}` is not how `{name}` is used", expr.span, help=_FORMS[name]
            ) from None

    def text(self, expr: syntax.Expr, cx: Context) -> str:
        """A key with its `{...}` filled in."""
        if not isinstance(expr, syntax.String):
            raise error("A607", "a key is a string", expr.span)
        return re.sub(r"\{([^{}]*)\}", lambda match: self._filled(match[1], expr.span, cx), expr.value)

    def _filled(self, text: str, span: Span, cx: Context) -> str:
        try:
            value = expressions.evaluate(cx, _parsed(text))
        except ArchError as failure:
            found = failure.diagnostics[0]
            help = KNOWN if found.code == "A101" else found.help
            raise error("A607", f"`{{{text}}}`: {found.title}", span, help=help) from None
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise error("A607", f"`{{{text}}}` is neither a whole number nor a string", span)
        return str(value)


@contextmanager
def _of_a_map() -> Iterator[None]:
    """A name that nothing has, in the words of a map."""
    try:
        yield
    except ArchError as failure:
        raise ArchError(*(replace(d, help=KNOWN) if d.code == "A101" else d for d in failure.diagnostics)) from None


@cache
def _parsed(text: str) -> syntax.Expr:
    """The expression in `{...}`, parsed once for all the weights that it serves."""
    return parse_expression(Source("{...}", text))


def _used_twice(reads: Mapping[str, tuple[Adapter, Span]]) -> Iterator[ArchError]:
    """Tensors of theirs, or rows of them, that two weights of ours would be saved as."""
    known: dict[tuple[str, int], tuple[str, Span]] = {}
    said: set[Span] = set()
    for ours, (adapter, span) in reads.items():
        for part in _parts(adapter):
            first, place = known.setdefault(part, (ours, span))
            if first != ours and span not in said:
                said.add(span)
                places = [Label(span, f"for `{ours}`"), *([Label(place, f"for `{first}`")] if place != span else [])]
                yield error("A603", f"`{part[0]}` of the checkpoint is mapped twice", *places)


def _parts(adapter: Adapter) -> Iterator[tuple[str, int]]:
    """The tensors that an adapter writes, each with the number of its part."""
    if isinstance(adapter, Key):
        yield adapter.key, 0
    elif isinstance(adapter, Rows):
        yield from ((key, adapter.part) for key in adapter.names())
    elif isinstance(adapter, Concat):
        for inner in adapter.inner:
            yield from _parts(inner)
    else:
        yield from _parts(adapter.inner)


def _shapes(graph: Graph) -> dict[str, Shape]:
    """The shapes of all weights, which are numbers, by path."""
    return {path: tuple(int(str(size)) for size in param.shape) for path, param, _ in graph.weights()}


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(isinstance(value, int) for value in values):
        raise TypeError
    return values


def _part(inner: Adapter, part: Any, parts: Any) -> Rows:
    key = inner.inner if isinstance(inner, Reshape) else inner
    if not isinstance(key, Key) or not (isinstance(part, int) and isinstance(parts, int) and 0 <= part < parts):
        raise TypeError
    return Rows(inner, int(part), int(parts))


_ADAPTERS: dict[str, Callable[..., Adapter]] = {
    "rows": _part,
    "concat": Concat,
    "transpose": lambda inner, order=None: Transpose(inner, _ints(order) if order is not None else None),
    "reshape": lambda inner, shape: Reshape(inner, _ints(shape)),
    "flip": lambda inner, axes: Flip(inner, _ints(axes)),
    "reorder": lambda inner, order, axis: Reorder(inner, _ints(order), *_ints((axis,))),
}
_FORMS = {
    "rows": '`rows("KEY", i, n)`: part i of n equal parts of the rows',
    "concat": '`concat(["KEY", "KEY"])`, or `concat([...], [rows, rows])` where they differ in size',
    "transpose": '`transpose("KEY")`, or `transpose("KEY", [2, 0, 1])`',
    "reshape": '`reshape("KEY", [2, 3])`: the shape that theirs has',
    "flip": '`flip("KEY", [0])`: the axes to reverse',
    "reorder": '`reorder("KEY", [0, 2, 1], 1)`: the three parts of axis 1, in this order',
}


def _path(expr: syntax.Expr) -> list[Any]:
    """`stages[s].norm` as ["stages", s, "norm"]; indices stay expressions."""
    if isinstance(expr, syntax.Name):
        return [expr.id]
    if isinstance(expr, syntax.String):  # a reserved word
        return [expr.value]
    if isinstance(expr, syntax.Attribute):
        return [*_path(expr.value), expr.name]
    if isinstance(expr, syntax.Index) and all(
        isinstance(s.value, syntax.Expr) and s.axis is None for s in expr.subscripts
    ):
        return [*_path(expr.value), *(subscript.value for subscript in expr.subscripts)]
    raise error("A607", "the left of an entry is a path of ours: `stages[s].blocks[i].norm`", expr.span)


def _words(expr: syntax.Expr) -> list[str]:
    return [part for part in reversed(_path(expr)) if isinstance(part, str)]


def _length(expr: syntax.Expr) -> int:
    return len(_path(expr))
