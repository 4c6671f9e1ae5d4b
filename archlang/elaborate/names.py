"""What can be said of a file before any of it is elaborated: names that nothing has, and things defined twice.

It reads every block and branch, called or not. Where a bare name may be that of an axis or dtype (`on = heads`) it says
nothing: elaboration knows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error, suggest
from archlang.elaborate.arguments import PER_NAME, slots
from archlang.elaborate.files import Module
from archlang.elaborate.hints import missing
from archlang.elaborate.limits import MAX_MISTAKES, too_many_mistakes
from archlang.elaborate.operators import BUILTINS, CONSTANTS
from archlang.elaborate.values import BlockDef
from archlang.primitives import CONSTRUCTS
from archlang.source import Span

ENDED = "what a loop binds first ends with it: bind the name before the loop"
BY_NAME = ("axes", "axis", "names", "dtype", "word")  # kinds of arguments where a bare name is no variable


def check_names(module: Module) -> Iterator[ArchError]:
    """The mistakes of a file that need no elaboration, each unknown name once."""
    said: set[str] = set()
    for model in module.models.values():
        yield from _twice(model)
        yield from _facts(model)
    bodies = [block.syntax for block in module.names.values() if block.module is module]
    for item in [*bodies, *module.models.values()]:
        if isinstance(item, syntax.Block | syntax.Model):
            reader = _Reader(module)
            reader.item(item)
            for name, span, known in reader.unknown:
                if name not in said:
                    said.add(name)
                    ended = error("A101", f"there is no `{name}` here", span, help=ENDED)
                    yield ended if name in reader.ended else missing(name, span, known)
                if len(said) >= MAX_MISTAKES:
                    yield too_many_mistakes(span)
                    return


# ---- models: what stands twice, and facts about variants
def _twice(model: syntax.Model) -> Iterator[ArchError]:
    kinds = (("output", syntax.Output), ("variant", syntax.Variant), ("checkpoint map", syntax.Checkpoint))
    for word, kind in kinds:
        items = [(item.name, item.span) for item in model.body if isinstance(item, kind)]
        yield from _repeated(items, f"the {word} `{{}}` is defined twice", "A102")
    for item in model.body:
        if isinstance(item, syntax.Variant):
            settings = [(setting.name, setting.span) for setting in item.settings]
            yield from _repeated(settings, "`{}` is given twice", "A313")


def _repeated(items: Iterable[tuple[str, Span]], title: str, code: str) -> Iterator[ArchError]:
    first: dict[str, Span] = {}
    for name, span in items:
        if name in first:
            yield error(code, title.format(name), Label(span, "again here"), Label(first[name], "first here"))
        first.setdefault(name, span)


def _facts(model: syntax.Model) -> Iterator[ArchError]:
    """`expect ... for VARIANT` of variants that the model does not have."""
    known = [item.name for item in model.body if isinstance(item, syntax.Variant)]
    for item in model.body:
        for fact in item.facts if isinstance(item, syntax.Expect) else ():
            if fact.variant is not None and fact.variant not in known:
                help = suggest(fact.variant, known) or f"it has {', '.join(known) or 'none'}"
                yield error("A503", f"`{model.name}` has no variant `{fact.variant}`", fact.span, help=help)


# ---- blocks and models: names
@dataclass
class _Reader:
    """Reads one block or model with the names that are in scope, statement by statement."""

    module: Module
    scopes: list[set[str]] = field(default_factory=lambda: [set()])
    unknown: list[tuple[str, Span, list[str]]] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)  # bound in loops that are over

    def item(self, item: syntax.Block | syntax.Model) -> None:
        self.bind(*(hyper.name for hyper in item.hypers))
        if isinstance(item, syntax.Block):
            for port in item.signature.inputs:
                self.bind(port.name)
                self.type(port.type)
        else:
            for statement in item.body:
                if isinstance(statement, syntax.Input):
                    self.type(statement.port.type)  # a default may mention the axes of inputs
        for hyper in item.hypers:
            self.read(hyper.default, hyper.kind.name if hyper.kind else "value")
        self.body(item.body)

    def bind(self, *names: str) -> None:
        self.scopes[-1].update(names)

    def known(self, name: str) -> bool:
        return (
            any(name in scope for scope in self.scopes)
            or name in self.module.places
            or any(name in names for names in (CONSTRUCTS, CONSTANTS, BUILTINS))
        )

    def type(self, type_: syntax.Type) -> None:
        """A type binds the names of its sizes."""
        for axis in type_.axes:
            if isinstance(axis, syntax.Axis):
                self.bind(axis.size.id if isinstance(axis.size, syntax.Name) else axis.name)

    # ---- statements
    def body(self, body: tuple[syntax.Statement, ...]) -> None:
        for statement in body:
            self.statement(statement)

    def inside(self, body: tuple[syntax.Statement, ...], *names: str) -> set[str]:
        """A body in braces, and what it binds: that of a loop ends with it, that of a branch does not."""
        self.scopes.append(set(names))
        self.body(body)
        return self.scopes.pop()

    def statement(self, s: Any) -> None:  # noqa: C901 (one case a form)
        match s:
            case syntax.Bind():
                self.read_all(s.values)
                self.bind(*(target.id for target in s.targets))
            case syntax.Repeat():
                self.read(s.count)
                self.ended |= self.inside(s.body, *_index(s.label))
            case syntax.For():
                self.read(s.iterable)
                self.ended |= self.inside(s.body, *_index(s.label), *_names(s.targets))
            case syntax.If():
                self.read(s.condition)
                self.bind(*(name for branch in (s.then, s.otherwise) for name in self.inside(branch)))
            case syntax.Return() | syntax.Yield():
                self.read_all(s.values)
            case syntax.Require():
                self.read(s.condition)
            case syntax.Declare():
                self.read(s.value)
                self.bind(s.port.name)
            case syntax.Input():
                self.bind(s.port.name)
                self.type(s.port.type)
            case syntax.Output():
                self.read(s.value)
                self.bind(s.name)
                if s.type is not None:
                    self.type(s.type)

    # ---- expressions
    def read_all(self, parts: Iterable[Any]) -> None:
        for part in parts:
            self.read(part)

    def read(self, expr: Any, kind: str = "value") -> None:  # noqa: C901 (one case a form)
        """The names in an expression; `kind` is what takes it."""
        if kind in BY_NAME and isinstance(expr, syntax.Name | syntax.List):
            return
        match expr:
            case syntax.Name():
                if not self.known(expr.id) and len(self.unknown) < MAX_MISTAKES:
                    names = [name for scope in self.scopes for name in scope]
                    known = [*names, *self.module.names, *CONSTRUCTS, *BUILTINS, *CONSTANTS]
                    self.unknown.append((expr.id, expr.span, known))
            case syntax.List():
                self.read_all(item.value for item in expr.items)
            case syntax.Comprehension():
                self.read(expr.iterable)
                self.scopes.append(set(_names(expr.targets)))
                self.read(expr.value)
                self.scopes.pop()
            case syntax.Call():
                self.call(expr)
            case syntax.Index():
                self.read(expr.value)
                for subscript in expr.subscripts:
                    self.read(subscript.value, "value" if subscript.axis else "word")  # `kernel[h]` of an axis map
            case syntax.Slice():
                self.read_all((expr.start, expr.stop, expr.step))
            case syntax.Match():
                self.read(expr.subject)
                for arm in expr.arms:
                    self.read(arm.pattern, "word")
                    self.read(arm.value)
            case syntax.Scan():
                if not isinstance(expr.order, syntax.Name):
                    self.read(expr.order)
                self.read_all(carry.value for carry in expr.carries)
                self.ended |= self.inside(expr.body, *(carry.port.name for carry in expr.carries))
            case syntax.Attribute() | syntax.Named():
                self.read(expr.value)
            case syntax.Unary():
                self.read(expr.operand)
            case syntax.Binary():
                self.read_all((expr.left, expr.right))
            case syntax.IfElse():
                self.read_all((expr.condition, expr.then, expr.otherwise))
            case syntax.Pipe():
                self.read_all(expr.stages)

    def call(self, expr: syntax.Call) -> None:
        self.read(expr.function)
        kinds = self.kinds(expr.function)
        by_place = "word" if any(kind in BY_NAME for kind in kinds.values()) else kinds.get("", "value")
        for argument in expr.arguments:
            self.read(argument.value, by_place if argument.name is None else kinds.get(argument.name, kinds[""]))

    def kinds(self, function: syntax.Expr) -> dict[str, str]:
        """How a call reads its arguments by name; under "" those that it does not name. Nothing is known of layers in
        variables.
        """
        name = function.id if isinstance(function, syntax.Name) else ""
        target: Any = self.module.names.get(name) or CONSTRUCTS.get(name)
        if any(name in scope for scope in self.scopes) or (target is None and name not in BUILTINS):
            return {"": "word"}
        if target is None:
            return {"": "value"}
        kinds = slots(target)[0]
        ports = dict.fromkeys((port.strip("*?") for port in slots(target)[1]), "value")
        other = "value" if isinstance(target, BlockDef) or not any(name in PER_NAME for name in kinds) else "word"
        return {**ports, **kinds, "": other}


def _index(label: syntax.Label | None) -> list[str]:
    return [label.index] if label is not None and label.index is not None else []


def _names(pattern: syntax.Pattern) -> Iterator[str]:
    for item in pattern.items:
        yield from _names(item) if isinstance(item, syntax.Pattern) else [item.id]
