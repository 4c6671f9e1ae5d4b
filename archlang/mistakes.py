"""What to say about a syntax error: a table of the mistakes that people make."""

from collections.abc import Sequence
from dataclasses import dataclass

from archlang.diagnostics import ArchError, error
from archlang.lexer import Token
from archlang.source import Source, Span


@dataclass(frozen=True)
class Mistake:
    """The first token that cannot stand where it is, those before it, and what could stand there."""

    source: Source
    token: Token
    before: Sequence[Token]
    expected: frozenset[str]

    @property
    def span(self) -> Span:
        return Span(self.source, self.token.start, self.token.end)


def explain(mistake: Mistake) -> ArchError:
    return error("A019", f"`{mistake.token.text}` cannot stand here", mistake.span)
