"""Text to tokens: decoding, the tokens that the grammar names, and which newlines count."""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from errno import EINVAL
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from archlang.diagnostics import error
from archlang.source import Source, Span

MAX_BYTES = 512 * 2**10
MAX_NESTING = 100
DEEP = "give a name to a part of it"

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = frozenset(OPENERS.values())
SIGNS = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}"}
CONTINUES = frozenset(("PLUS", "MINUS", "TIMES", "POWER", "COMPARE", "OR_SIGN", "AND_SIGN", "AND", "OR", "NOT", "IN"))
CONTINUES |= {"IF", "ELSE", "COMMA", "EQUAL", "COLON", "DOC", "_ARROW", "_GIVES", "LBRACE"}
NAMED = frozenset(("AS", "DOT"))  # what follows is a name, also where it is a reserved word: checkpoints have those
CONTINUED = frozenset(("_ARROW", "ELSE", "RBRACE"))


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int

    def span(self, source: Source) -> Span:
        return Span(source, self.start, self.end)


def read(file: Path | str | bytes, name: str | None = None) -> Source:
    """The source in a file, or in bytes: UTF-8, at most MAX_BYTES, a byte order mark dropped."""
    data, name = (file, name or "<string>") if isinstance(file, bytes) else (_head(Path(file)), name or str(file))
    if len(data) > MAX_BYTES:
        advice = "split it: files can `use` each other's blocks"
        raise error("A801", f"{name} is longer than {MAX_BYTES // 2**10} KiB", help=advice)
    text = data.removeprefix(BOM_UTF8)
    try:
        return Source(name, text.decode("utf-8"))
    except UnicodeDecodeError as failure:
        valid = Source(name, text[: failure.start].decode("utf-8"))
        place = Span(valid, len(valid.text), len(valid.text))
        title = f"byte {len(data) - len(text) + failure.start} of {name} is not UTF-8 text"
        raise error("A001", title, place, help="save the file as UTF-8") from None


def _head(path: Path) -> bytes:
    """As much of a file as is needed to see that it is too long. A named pipe would wait for somebody to write; those
    that a shell makes, `<(..)`, are below `/dev`.
    """
    if path.is_fifo() and Path("/dev") not in path.parents:
        raise OSError(EINVAL, "it is a pipe, not a file")
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


class Lexer:
    """The terminals of the grammar as one regular expression."""

    def __init__(self, terminals: Sequence[Sequence[str]]) -> None:
        self.words: Mapping[str, str] = {text: kind for kind, text in terminals if text.isidentifier()}
        self.reserved = frozenset(self.words.values())
        self.terminals = [(kind, pattern) for kind, pattern in terminals if not pattern.isidentifier()]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in self.terminals) + "|(?P<BAD>(?s:.))")

    def raw(self, code: str, start: int = 0) -> Iterator[Token]:
        """Every token, with comments and newlines."""
        words = self.words
        for match in self.pattern.finditer(code, start):
            kind = match.lastgroup or "BAD"
            if kind == "_SPACE":
                continue
            text = match.group()
            if kind == "NAME":
                kind = words.get(text, kind)
            yield Token(kind, text, *match.span())

    def tokens(self, source: Source, code: str, start: int = 0) -> Iterator[Token]:
        """What the parser sees of `code`, which is the text of `source` or as long: no comments, and of the newlines
        those that end a statement."""
        opened: list[Token] = []
        last, newline = "_NEWLINE", None
        for token in self.raw(code, start):
            kind = token.kind
            if kind == "_COMMENT":
                continue
            if kind == "_NEWLINE":
                if last not in CONTINUES and last != "_NEWLINE" and (not opened or opened[-1].kind == "LBRACE"):
                    newline = newline or token
                continue
            if newline is not None and kind not in CONTINUED:
                yield newline
            elif last in NAMED and kind in self.reserved:
                kind, token = "NAME", token._replace(kind="NAME")
            newline, last = None, kind
            if kind in OPENERS:
                opened.append(token)
                if len(opened) > MAX_NESTING:
                    title = f"brackets nest deeper than {MAX_NESTING} levels"
                    raise error("A802", title, token.span(source), help=DEEP)
            elif kind in CLOSERS and opened:
                opened.pop()
            yield token
        yield Token("$END", "", len(code), len(code))
