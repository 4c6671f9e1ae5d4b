"""The place of a syntax error: what was found, what went before, what was expected."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from archlang.lexer import CLOSERS, OPENERS, Token
from archlang.source import Source, Span

ITEMS = frozenset(("USE", "FOREIGN", "BLOCK", "MODEL"))
OF_A_MODEL = frozenset(("INPUT", "VARIANT", "EXPECT", "CHECKPOINT"))
STARTERS = ITEMS | OF_A_MODEL | {"REPEAT", "RETURN", "REQUIRE", "PARAM", "BUFFER", "LOSS", "OUTPUT", "EXIT", "YIELD"}
OPERATORS = frozenset(("OR", "AND", "IN", "COMPARE", "OR_SIGN", "AND_SIGN", "PLUS", "MINUS", "TIMES", "POWER"))
VALUES = frozenset(("NAME", "NUMBER", "STRING", "TRUE", "FALSE", "NONE"))
LONGEST = 40
ENDS = VALUES | {"RPAR", "RSQB", "RBRACE"}  # the last token of a value
NAMELESS = {"_NEWLINE": "the end of the line", "$END": "the end of the file"}


def quoted(text: str) -> str:
    """A piece of code as it stands in a message."""
    line = text.split("\n", 1)[0]
    return f"`{line}`" if line == text and len(line) <= LONGEST else f"`{line[:LONGEST]}…`"


@dataclass(frozen=True)
class Mistake:
    """The first token that cannot stand where it is, those before it, and what could stand there."""

    source: Source
    token: Token
    before: Sequence[Token]
    expected: frozenset[str]

    @cached_property
    def span(self) -> Span:
        start = self.token.start
        return Span(self.source, start, start if self.token.kind == "_NEWLINE" else self.token.end)

    @cached_property
    def text(self) -> str:
        return NAMELESS.get(self.token.kind) or quoted(self.token.text)

    @cached_property
    def last(self) -> Token:
        return self.before[-1] if self.before else Token("_NEWLINE", "", 0, 0)

    @cached_property
    def opened(self) -> list[Token]:
        """The brackets that are open."""
        opened: list[Token] = []
        for token in self.before:
            if token.kind in OPENERS:
                opened.append(token)
            elif token.kind in CLOSERS:
                opened.pop()
        return opened

    @cached_property
    def inside(self) -> str:
        """The kind of the innermost open bracket."""
        return self.opened[-1].kind if self.opened else ""

    @cached_property
    def statement(self) -> list[Token]:
        """The tokens of the statement so far, without what stands in closed brackets."""
        tokens: list[Token] = []
        depth = 0
        for token in reversed(self.before):
            depth += (token.kind in CLOSERS) - (token.kind in OPENERS)
            if depth < 0 or (depth == 0 and token.kind in ("_NEWLINE", "LBRACE")):
                break
            if depth == 0:
                tokens.append(token)
        return tokens[::-1]

    @cached_property
    def head(self) -> Token:
        """The first token of the line of code that holds the mistake."""
        starts = (i for i in range(len(self.before) - 1, -1, -1) if self.before[i].kind in ("_NEWLINE", "LBRACE"))
        first = next(starts, -1) + 1
        return self.before[first] if first < len(self.before) else self.token

    @cached_property
    def on_new_line(self) -> bool:
        return self.last.kind == "_NEWLINE" or "\n" in self.source.text[self.last.end : self.token.start]

    @cached_property
    def wants_value(self) -> bool:
        return "NUMBER" in self.expected

    @cached_property
    def wants_name(self) -> bool:
        """A name and no other value."""
        return "NAME" in self.expected and not self.wants_value and not self.wants_statement

    @cached_property
    def wants_statement(self) -> bool:
        return "REPEAT" in self.expected

    @cached_property
    def begins_value(self) -> bool:
        return self.token.kind in VALUES | {"MATCH", "SCAN", "NOT"}

    @cached_property
    def has_value(self) -> bool:
        return self.last.kind in ENDS and not self.wants_value

    @cached_property
    def is_word(self) -> bool:
        return self.token.text.isidentifier() and self.token.kind != "NAME"

    def at(self, token: Token) -> Span:
        return token.span(self.source)

    def follows(self, pattern: str) -> bool:
        """Whether the text after the token matches."""
        return re.compile(pattern).match(self.source.text, self.token.end) is not None
