"""One name, one thing: the names of a block or model, with the rules for binding them again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from archlang.diagnostics import Label, error
from archlang.elaborate.values import UNKNOWN, is_number, kind_of
from archlang.source import Span


@dataclass(slots=True)
class Binding:
    """What a name stands for. `word` says how it was bound: `hyper-parameter`, `axis`, `input`, `name`. A `default` is
    evaluated when needed.
    """

    value: Any
    span: Span
    word: str = "name"
    default: Callable[[], Any] | None = None
    busy: bool = False


class Scope:
    """Names in blocks of braces: inner ones see and may rebind outer ones; names first bound inside end with them."""

    def __init__(self, parent: "Scope | None" = None) -> None:
        self.parent = parent
        self.names: dict[str, Binding] = {}
        self.assigned: dict[str, Binding] = parent.assigned if parent else {}

    def find(self, name: str) -> Binding | None:
        scope: Scope | None = self
        while scope is not None:
            if (binding := scope.names.get(name)) is not None:
                return binding
            scope = scope.parent
        return None

    def get(self, name: str) -> Any:
        """The value of a bound name; runs the default of a hyper-parameter that nobody gave. None where unbound is
        `find`.
        """
        binding = self.find(name)
        assert binding is not None
        if binding.default is not None:
            if binding.busy:
                raise error("A304", f"the default of `{name}` needs itself", binding.span)
            binding.busy = True
            try:
                binding.value = binding.default()
            finally:
                binding.busy = False
            binding.default = None
        return binding.value

    def numbers(self) -> dict[str, Any]:
        """The numbers, and lists of numbers, that hyper-parameters and names stand for: words for what differs between
        instances.
        """
        found = {name: b.value for name, b in self.names.items() if b.word != "axis" and b.default is None}
        return {
            n: v for n, v in found.items() if is_number(v) or (isinstance(v, tuple) and v and all(map(is_number, v)))
        }

    def define(self, name: str, value: Any, span: Span, word: str) -> None:
        """A hyper-parameter, axis, input or loop variable."""
        self.names[name] = Binding(value, span, word)

    def bind(self, name: str, value: Any, span: Span) -> None:
        """`name = value`."""
        known = self.find(name)
        if known is None:
            self.names[name] = Binding(value, span)
            return
        if known.word not in ("name", "input"):
            raise error(
                "A104",
                f"`{name}` is already {_article(known.word)}",
                Label(span, "bound again here"),
                Label(known.span, f"{known.word} here"),
            )
        if not _may_become(known.value, value):
            old, new = kind_of(known.value), kind_of(value)
            raise error(
                "A105",
                f"`{name}` is a {old} and cannot become a {new}",
                Label(span, f"a {new}"),
                Label(known.span, f"a {old} here"),
                help="one name, one thing: use another name",
            )
        self.assigned[name] = known
        known.value, known.span, known.word = value, span, "name"

    def visible(self) -> Iterator[str]:
        """All names, for suggestions."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _may_become(old: Any, new: Any) -> bool:
    if UNKNOWN in (old, new):
        return True
    before, after = kind_of(old), kind_of(new)
    return before == after or before == "none" or (before == "number" and after == "tensor")
