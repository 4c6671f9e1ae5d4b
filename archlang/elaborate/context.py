"""Where elaboration stands: the session, and the place in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archlang.diagnostics import ArchError, Collector
from archlang.elaborate.frame import Frame
from archlang.elaborate.limits import Budget
from archlang.elaborate.scope import Scope
from archlang.elaborate.values import BlockDef
from archlang.ir import Value
from archlang.sizes import Facts
from archlang.source import Span

if TYPE_CHECKING:
    from archlang.elaborate.files import Module


@dataclass
class Session:
    """One elaboration of one model: its errors, bounds, conditions and the blocks already elaborated."""

    collector: Collector = field(default_factory=Collector)
    budget: Budget = field(default_factory=Budget)
    facts: Facts = field(default_factory=Facts)
    memo: dict[Any, Any] = field(default_factory=dict)
    cuts: dict[str, Value] = field(default_factory=dict)  # by axis: the input that cuts it into documents
    made: dict[Any, bool] = field(default_factory=dict)  # whether a block makes weights itself


@dataclass(frozen=True)
class Context:
    """The surroundings of an expression or statement."""

    session: Session
    module: "Module"
    scope: Scope
    frame: Frame
    loop: Span | None = None  # the innermost loop without a label
    starting: bool = False  # inside the start of a weight, where `index(n)` is one too
    calls: tuple[tuple[BlockDef, Span], ...] = ()  # the blocks around, outermost first, and where each was called

    def inner(self, **changes: Any) -> "Context":
        return replace(self, **changes)

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Errors inside a block of another file point at the call first."""
        try:
            yield
        except ArchError as failure:
            raise ArchError(*(self.blamed(d) for d in failure.diagnostics)) from None

    def blamed(self, diagnostic: Any) -> Any:
        """The diagnostic with the outermost call out of the user's own file as its first label, where it lies in another file."""
        from archlang.diagnostics import Label

        if not diagnostic.labels or not self.calls:
            return diagnostic
        home = self.calls[0][1].source
        if any(label.span.source is home for label in diagnostic.labels[:1]):
            return diagnostic
        call = next((span for _, span in reversed(self.calls) if span.source is home), None)
        if call is None or any(label.span == call for label in diagnostic.labels):
            return diagnostic
        return replace(diagnostic, labels=(Label(call, "in this call"), *diagnostic.labels))
