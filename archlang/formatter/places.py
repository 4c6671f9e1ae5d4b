"""Where things stand in a file, and lists, bodies and lines with the comments that belong to them."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence

from archlang.formatter.layout import Align, Doc, Fill, Line, Nest, Suffix
from archlang.lexer import Token
from archlang.parser import tokens
from archlang.source import Source, Span
from archlang.syntax import Syntax

HARD = Line(hard=True)


def filled(docs: Sequence[Doc]) -> Doc:
    """Items with commas between, as many on a line as fit."""
    return Align(Fill([*([doc, ","] for doc in docs[:-1]), docs[-1]]))


def docstring(text: str) -> Doc:
    """A docstring, its later lines under the quotes; one that is indented unevenly begins on its second line."""
    lines = text.split("\n")
    uneven = lines[0] != lines[0].strip() or not any(line and line == line.lstrip() for line in lines[1:] or ["."])
    if uneven:
        lines = ["", *lines, ""]
    elif text.endswith('"'):
        lines[-1] += " "
    return ['"""', lines[0], *(piece for line in lines[1:] for piece in (HARD, line)), '"""']


class Places(ABC):
    """Documents for the syntax of one file; each comment is taken by the innermost list, body or pipe it stands in."""

    def __init__(self, source: Source) -> None:
        self.text = source.text
        everything = tokens(source)
        self.tokens = [token for token in everything if token.kind not in ("_COMMENT", "_NEWLINE")]
        self.starts = [token.start for token in self.tokens]
        self.comments = [token for token in everything if token.kind == "_COMMENT"]  # those that nothing has taken

    # ---- where things stand
    def after(self, place: int) -> Token:
        """The first token that starts at `place` or later."""
        found = bisect_left(self.starts, place)
        return self.tokens[found] if found < len(self.tokens) else Token("$END", "", len(self.text), len(self.text))

    def before(self, place: int) -> Token:
        return self.tokens[bisect_left(self.starts, place) - 1]

    def around(self, start: int, end: int) -> tuple[int, int]:
        """What the brackets around a list enclose."""
        closing = self.after(end)
        return self.before(start).end, (self.after(closing.end) if closing.kind == "COMMA" else closing).start

    def untaken(self, start: int, end: int) -> slice:
        return slice(*(bisect_left(self.comments, place, key=lambda token: token.start) for place in (start, end)))

    def take(self, start: int, end: int) -> list[Token]:
        """The comments of a region that nothing inside it has taken."""
        region = self.untaken(start, end)
        taken, self.comments[region] = self.comments[region], []
        return taken

    def comments_between(self, spans: Sequence[Span], begin: int, end: int) -> bool:
        """Whether a comment stands beside `spans` and not in one."""
        found = self.comments[self.untaken(begin, end)]
        return any(not any(span.start <= token.start < span.end for span in spans) for token in found)

    def enclosed(self, span: Span) -> bool:
        """Whether an operand stands in parentheses of its own."""
        return self.before(span.start).kind == "LPAR" and self.after(span.end).kind == "RPAR"

    @abstractmethod
    def any(self, node: Syntax) -> Doc:
        """The document of a node."""

    # ---- lines, bodies and lists
    def lines(self, items: Sequence[tuple[int, int, Doc]], begin: int, end: int) -> list[Doc]:
        """Items on lines of their own, with the comments around them: each piece begins with its break."""
        entries = [entry for start, stop, doc in items for entry in (*self.hoisted(start, stop), (start, stop, doc))]
        comments = {token.start: token for token in self.take(begin, end)}
        entries += [(token.start, token.end, token.text.rstrip()) for token in comments.values()]
        rows: list[Doc] = []
        last = begin
        for start, stop, doc in sorted(entries, key=lambda entry: entry[:2]):
            breaks = self.text.count("\n", last, start)
            if start in comments and not breaks and (rows or begin):
                rows.append(Suffix(f"  {doc}"))
            else:
                rows += [HARD if breaks > 1 and rows else "", HARD, doc]
            last = max(last, stop)
        return rows

    def hoisted(self, start: int, stop: int) -> list[tuple[int, int, Doc]]:
        """The comments inside an item that have no place there: they go before it."""
        return [(start, start, token.text.rstrip()) for token in self.take(start, stop)]

    def braced(self, items: Sequence[Syntax], separator: str | None = None, doc: str | None = None) -> Doc:
        """`{ ... }` around statements, or around items that may share a line with a separator between."""
        if not items:
            return "{ }"
        docs: list[tuple[int, int, Doc]] = [(item.span.start, item.span.end, self.any(item)) for item in items]
        begin, end = self.around(docs[0][0], docs[-1][1])
        if doc is not None:
            first = self.before(docs[0][0])
            begin = self.before(first.start).end
            docs.insert(0, (first.start, first.end, docstring(doc)))
        broken = "\n" in self.text[begin : docs[0][0]] or (separator is None and len(docs) > 1)
        if broken or self.comments[self.untaken(begin, end)]:
            return ["{", Nest(self.lines(docs, begin, end)), HARD, "}"]
        between = Line(flat=separator or "")
        inner: list[Doc] = [piece for _, _, doc in docs for piece in (between, doc)][1:]
        return ["{", Nest([Line(), *inner]), Line(), "}"]

    def listed(self, opening: str, items: Sequence[Syntax], closing: str) -> Doc:
        """Items between brackets: filled lines that begin under the first item; with comments, a line for each."""
        docs = [self.any(item) for item in items]
        if not items:
            return opening + closing
        spans = [item.span for item in items]
        begin, end = self.around(spans[0].start, spans[-1].end)
        if self.comments_between(spans, begin, end):
            rows = self.lines([(s.start, s.end, [doc, ","]) for s, doc in zip(spans, docs, strict=True)], begin, end)
            return [opening, Nest(rows), HARD, closing]
        return [opening, filled(docs), closing]
