"""Weight maps: `checkpoint NAME { ours = theirs }` compiled against the weights of a network; loading and saving
published checkpoints.

Ours is a weight, or a layer with all of its weights under PyTorch's leaf names; index variables run over what exists.
Theirs is a key with `{...}`, or an adapter of keys. Every adapter is invertible, so what loads also saves.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlang import files, syntax
from archlang.diagnostics import ArchError, Collector, Label, error, suggest
from archlang.elaborate import expressions
from archlang.elaborate.context import Context, Session
from archlang.elaborate.frame import Frame
from archlang.elaborate.models import Elaborated
from archlang.elaborate.scope import Scope
from archlang.elaborate.values import is_number
from archlang.ir import Graph
from archlang.parser import parse_expression
from archlang.source import Source, Span

if TYPE_CHECKING:
    from torch import Tensor, nn

Tensors = Mapping[str, "Tensor"]
Shape = tuple[int, ...]


# ---- adapters: how a tensor of ours is made of tensors of theirs, and back
@dataclass(frozen=True)
class Key:
    """One tensor of theirs."""

    key: str

    def names(self) -> Iterator[str]:
        yield self.key

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return theirs[self.key]

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        theirs[self.key] = value


@dataclass(frozen=True)
class Rows:
    """Part `part` of `parts` equal parts of the rows (axis 0) of theirs."""

    inner: "Adapter"
    part: int
    parts: int

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        whole = self.inner.read(theirs, (shape[0] * self.parts, *shape[1:]))
        return whole.chunk(self.parts)[self.part]

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        """The rows of the whole that belong to this part; the whole is made with the first part."""
        assert isinstance(self.inner, Key)
        whole = theirs.get(self.inner.key)
        if whole is None:
            whole = value.new_zeros((value.shape[0] * self.parts, *value.shape[1:]))
        whole[self.part * value.shape[0] : (self.part + 1) * value.shape[0]] = value
        self.inner.write(whole, theirs)


@dataclass(frozen=True)
class Concat:
    """Theirs one after the other along axis 0; `sizes` are their rows where these are not equal."""

    inner: tuple["Adapter", ...]
    sizes: tuple[int, ...] | None

    def names(self) -> Iterator[str]:
        for part in self.inner:
            yield from part.names()

    def _rows(self, rows: int) -> tuple[int, ...]:
        return self.sizes or (rows // len(self.inner),) * len(self.inner)

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        import torch

        rows = self._rows(shape[0])
        return torch.cat([part.read(theirs, (size, *shape[1:])) for part, size in zip(self.inner, rows, strict=True)])

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        for part, piece in zip(self.inner, value.split(self._rows(value.shape[0])), strict=True):
            part.write(piece.contiguous(), theirs)


@dataclass(frozen=True)
class Transpose:
    """Theirs with its axes in the order `order` (of a matrix: transposed)."""

    inner: "Adapter"
    order: tuple[int, ...] | None

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def _order(self, rank: int) -> tuple[int, ...]:
        return self.order or tuple(reversed(range(rank)))

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        order = self._order(len(shape))
        before = tuple(shape[order.index(i)] for i in range(len(shape)))
        return self.inner.read(theirs, before).permute(order)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        order = self._order(value.ndim)
        self.inner.write(value.permute([order.index(i) for i in range(value.ndim)]).contiguous(), theirs)


@dataclass(frozen=True)
class Reshape:
    """Theirs, which has the shape `shape`, in the shape of ours."""

    inner: "Adapter"
    shape: Shape

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self.inner.read(theirs, self.shape).reshape(shape)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value.reshape(self.shape), theirs)


@dataclass(frozen=True)
class Flip:
    """Theirs reversed along the axes `axes`."""

    inner: "Adapter"
    axes: tuple[int, ...]

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self.inner.read(theirs, shape).flip(self.axes)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value.flip(self.axes), theirs)


@dataclass(frozen=True)
class Plus:
    """Theirs plus a number (norms that store `weight - 1`)."""

    inner: "Adapter"
    number: float

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self.inner.read(theirs, shape) + self.number

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value - self.number, theirs)


Adapter = Key | Rows | Concat | Transpose | Reshape | Flip | Plus


@dataclass(frozen=True)
class WeightMap:
    """A map for one network: how each weight of ours is read, and which keys of theirs have no counterpart."""

    name: str
    reads: Mapping[str, tuple[Adapter, Span]]
    without: tuple[str, ...]  # globs over their keys
    own: frozenset[str] = frozenset()  # weights of ours that theirs does not have

    def load(self, theirs: Tensors, ours: Tensors) -> "dict[str, Tensor]":
        """Tensors of ours from theirs; raises `ArchError` with all that is missing, left over or of another shape."""
        collector = Collector()
        found: dict[str, Tensor] = {}
        for key, (adapter, span) in self.reads.items():
            with collector.catch():
                found[key] = _read(key, adapter, theirs, tuple(ours[key].shape), span)
        used = {key for adapter, _ in self.reads.values() for key in adapter.names()}
        left = [key for key in theirs if key not in used and not any(fnmatchcase(key, glob) for glob in self.without)]
        if left:
            title = f"the map `{self.name}` leaves out {_some(left)} of the checkpoint"
            collector.add(*error("A604", title, help='map them, or write `none = "GLOB"`').diagnostics)
        collector.check()
        return found

    def save(self, ours: Tensors) -> "dict[str, Tensor]":
        """Tensors of theirs from ours."""
        theirs: dict[str, Tensor] = {}
        for key, (adapter, _) in self.reads.items():
            adapter.write(ours[key], theirs)
        return theirs


def _read(key: str, adapter: Adapter, theirs: Tensors, shape: Shape, span: Span) -> "Tensor":
    if missing := [name for name in adapter.names() if name not in theirs]:
        raise error(
            "A605",
            f"the checkpoint has no {_some(missing)}",
            Label(span, f"for `{key}`"),
            help=suggest(missing[0], theirs),
        )
    try:
        tensor = adapter.read(theirs, shape)
    except (RuntimeError, IndexError, ValueError) as failure:
        raise error(
            "A606", f"`{key}` cannot be made of the checkpoint: {str(failure).partition(chr(10))[0]}", span
        ) from None
    if tuple(tensor.shape) != shape:
        names = " and ".join(f"`{name}` {list(theirs[name].shape)}" for name in adapter.names())
        raise error(
            "A606",
            f"`{key}` has the shape {list(shape)}, and the checkpoint gives {list(tensor.shape)}",
            Label(span, f"from {names}"),
        )
    return tensor


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# ---- compiling a map
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
    compiler = _Compiler(_context(elaborated), [path for path, _, _ in elaborated.graph.weights()])
    return compiler.run(declared[0])


def _context(elaborated: Elaborated) -> Context:
    scope = Scope()
    for hyper, value in elaborated.settings.items():
        scope.define(hyper, value, elaborated.model.name_span, "hyper-parameter")
    return Context(Session(Collector()), elaborated.module, scope, Frame(Graph("checkpoint")))


@dataclass
class _Compiler:
    cx: Context
    weights: list[str]
    found: dict[str, tuple[int, Adapter | None, Span]] = field(
        default_factory=dict
    )  # by our key, with the length of the entry's path
    without: list[str] = field(default_factory=list)

    def run(self, declared: syntax.Checkpoint) -> WeightMap:
        collector = Collector()
        for entry in declared.entries:
            with collector.catch():
                self.entry(entry)
        if not collector.errors and (left := [key for key in self.weights if key not in self.found]):
            title = f"the map `{declared.name}` leaves out {_some(left)}"
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
        for failure in _used_twice(reads):
            collector.add(*failure.diagnostics)
        collector.check()
        own = frozenset(key for key, (_, adapter, _) in self.found.items() if adapter is None)
        return WeightMap(declared.name, reads, tuple(self.without), own)

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
        if not matched and (variables or self.adapter(entry.theirs, self.cx, "") is not None):
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
            return Key(self.text(expr, cx) + rest)
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
            value = expressions.evaluate(cx, parse_expression(Source("{...}", text)))
        except ArchError as failure:
            raise error(
                "A607",
                f"`{{{text}}}`: {failure.diagnostics[0].title if failure.diagnostics else 'it has no value'}",
                span,
            ) from None
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise error("A607", f"`{{{text}}}` is neither a whole number nor a string", span)
        return str(value)


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


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(isinstance(value, int) for value in values):
        raise TypeError
    return values


def _part(inner: Adapter, part: Any, parts: Any) -> Rows:
    if not isinstance(inner, Key) or not (is_number(part) and is_number(parts) and 0 <= part < parts):
        raise TypeError
    return Rows(inner, int(part), int(parts))


_ADAPTERS: dict[str, Callable[..., Adapter]] = {
    "rows": _part,
    "concat": Concat,
    "transpose": lambda inner, order=None: Transpose(inner, _ints(order) if order is not None else None),
    "reshape": lambda inner, shape: Reshape(inner, _ints(shape)),
    "flip": lambda inner, axes: Flip(inner, _ints(axes)),
}
_FORMS = {
    "rows": '`rows("KEY", i, n)`: part i of n equal parts of the rows',
    "concat": '`concat(["KEY", "KEY"])`, or `concat([...], [rows, rows])` where they differ in size',
    "transpose": '`transpose("KEY")`, or `transpose("KEY", [2, 0, 1])`',
    "reshape": '`reshape("KEY", [2, 3])`: the shape that theirs has',
    "flip": '`flip("KEY", [0])`: the axes to reverse',
}


def _path(expr: syntax.Expr) -> list[Any]:
    """`stages[s].norm` as ["stages", s, "norm"]; indices stay expressions."""
    if isinstance(expr, syntax.Name):
        return [expr.id]
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


# ---- files
def load_weights(module: "nn.Module", file: "str | Path | Tensors", map: str | None = None) -> None:
    """Load a `.safetensors` file (or a mapping of tensors) into a module made by `Architecture.module`.

    `map` names a checkpoint map of the model; without one the file speaks the module's own names. Nothing is changed
    when anything does not fit.
    """
    import torch

    theirs = file if isinstance(file, Mapping) else read_file(Path(file))
    ours = module.state_dict()
    tensors = _map_of(module, map, ours).load(theirs, ours)
    with torch.no_grad():
        for key, tensor in tensors.items():
            ours[key].copy_(tensor)


def save_weights(module: "nn.Module", file: str | Path, map: str | None = None) -> None:
    """Write a module's weights as a `.safetensors` file, under the names of a checkpoint map; the file appears whole or
    not at all.
    """
    from safetensors.torch import save

    ours = module.state_dict()
    tensors = _map_of(module, map, ours).save({key: tensor.detach().cpu().clone() for key, tensor in ours.items()})
    try:
        files.write(Path(file), save({key: tensor.contiguous() for key, tensor in tensors.items()}))
    except OSError as failure:
        raise error("A608", f"`{file}` cannot be written: {failure.strerror or failure}") from None


def _map_of(module: "nn.Module", name: str | None, ours: Tensors) -> WeightMap:
    if name is None:
        nowhere = Span(Source("weights", ""), 0, 0)
        return WeightMap("", {key: (Key(key), nowhere) for key in ours}, ())
    architecture: Any = getattr(module, "architecture", None)
    if architecture is None:
        raise error(
            "A601",
            "the module was not made by archlang, and so has no checkpoint map",
            help="make it with `Architecture.module()`",
        )
    found: WeightMap = architecture.map(name)
    return found


def read_file(path: Path) -> Tensors:
    """The tensors of a `.safetensors` file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: Tensors = load_file(path)
    except (OSError, SafetensorError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise error("A608", f"`{path}` cannot be read as .safetensors: {reason}") from None
    return tensors
