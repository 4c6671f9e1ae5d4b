"""Where to go on after a mistake: a statement that holds one is read as if it were another, sound one."""

from collections.abc import Callable, Iterable

from archlang.diagnostics import ArchError
from archlang.lexer import CLOSERS, OPENERS, Token
from archlang.mistakes.mistake import ITEMS, Mistake

SOUND = "_=0"  # may stand among statements, settings and the entries of a checkpoint
UNBOUNDED = frozenset(("A003", "A004", "A008", "A009", "A019", "A802"))  # nobody knows where the statement ends


def without_statement(text: str, m: Mistake, code: str, tokens: Callable[[int], Iterable[Token]]) -> str | None:
    """`text`, of the same length, without the statement that holds the mistake; None if it is in no statement."""
    start = statement_start(m)
    if start is None or code in UNBOUNDED:
        return None
    try:
        end = statement_end(m, tokens(start))
    except ArchError:
        return None
    return text[:start] + SOUND.ljust(end - start) + text[end:] if end - start >= len(SOUND) else None


def statement_start(m: Mistake) -> int | None:
    """Where the innermost statement begins that is not part of an expression."""
    item, starts = 0, list[int]()  # for each open bracket: the first token of a statement in it, or -1
    for i, token in enumerate(m.before):
        if token.kind in OPENERS:
            words = {before.kind for before in m.before[starts[-1] if starts else item : i]}
            is_body = token.kind == "LBRACE" and -1 not in starts and "MATCH" not in words
            starts.append(i + 1 if is_body else -1)
        elif token.kind in CLOSERS:
            starts.pop()
        elif token.kind in ("_NEWLINE", "DOC") and starts and starts[-1] >= 0:
            starts[-1] = i + 1
        elif token.kind in ITEMS:
            item = i
    bodies = [start for start in starts if start >= 0]
    return [*m.before, m.token][bodies[-1]].start if bodies else None


def statement_end(m: Mistake, tokens: Iterable[Token]) -> int:
    """The end of the line of code with the mistake, and of the bodies that it opens."""
    depth = 0
    for token in tokens:
        if token.kind in CLOSERS and depth == 0:
            return token.start
        depth += (token.kind in OPENERS) - (token.kind in CLOSERS)
        if depth == 0 and token.kind == "_NEWLINE" and token.start >= m.token.start:
            return token.start
    return 0
