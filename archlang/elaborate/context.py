"""Where elaboration stands: the session, and the place in it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archlang.diagnostics import ArchError, Collector, Diagnostic, Label
from archlang.elaborate.frame import Frame
from archlang.elaborate.limits import Budget
from archlang.elaborate.scope import Scope
from archlang.elaborate.values import BlockDef
from archlang.facts import Facts
from archlang.ir import Value
from archlang.source import Span

if TYPE_CHECKING:
    from archlang.elaborate.files import Module

IN_CALL = "in this call"
OF_ARGUMENTS = re.compile(r"A2(?!13|18)|A3(?!04|15|18)")  # what another call might not run into


@dataclass
class Session:
    """One elaboration of one model: its errors, bounds, conditions and the blocks already elaborated."""

    collector: Collector = field(default_factory=Collector)
    budget: Budget = field(default_factory=Budget)
    facts: Facts = field(default_factory=Facts)
    memo: dict[Any, Any] = field(default_factory=dict)
    cuts: dict[str, Value] = field(default_factory=dict)  # by axis: the input that cuts it into documents
    made: dict[Any, bool] = field(default_factory=dict)  # whether a block makes weights itself


@dataclass
class Yields:
    """What the body of a scan has yielded, and where."""

    frame: Frame
    values: tuple[Value, ...] = ()
    span: Span | None = None


@dataclass(frozen=True)
class Context:
    """The surroundings of an expression or statement."""

    session: Session
    module: "Module"
    scope: Scope
    frame: Frame
    scan: Yields | None = None  # the body of a scan that this is
    scanned: bool = False  # inside the body of a scan
    loop: Span | None = None  # the innermost loop without a label
    inlined: bool = False  # inside a block without weights, which is elaborated in place
    starting: bool = False  # inside the start of a weight, where `index(n)` is one too
    calls: tuple[tuple[BlockDef, Span], ...] = ()  # the blocks around, outermost first, and where each was called

    def inner(self, **changes: Any) -> "Context":
        return replace(self, **changes)

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Errors inside a block show the call."""
        try:
            yield
        except ArchError as failure:
            raise ArchError(*(self.blamed(d) for d in failure.diagnostics)) from None

    def blamed(self, diagnostic: Diagnostic) -> Diagnostic:
        """The diagnostic with the call that led to it: the first place where the code is of the standard library, else
        the last."""
        labels = diagnostic.labels
        calls = [span for _, span in self.calls if not span.source.name.startswith("std.")]
        if not labels or not calls or any(label.text == IN_CALL for label in labels):
            return diagnostic
        said = [label for label in labels if label.span == calls[-1]]
        if labels[0].span.source.name.startswith("std."):
            first = said[0] if said else Label(calls[-1], IN_CALL)
            return replace(diagnostic, labels=(first, *(label for label in labels if label is not first)))
        if any(label.span in calls[-1] for label in labels) or not OF_ARGUMENTS.match(diagnostic.code):
            return diagnostic
        return replace(diagnostic, labels=(*labels, Label(calls[-1], IN_CALL)))
