"""Long statements over several lines, as `ruff format` breaks them."""

import re
from collections.abc import Iterator
from itertools import pairwise

LIMIT = 120
OPERATORS = [  # the loosest first
    (" or ",),
    (" and ",),
    (" == ", " != ", " < ", " <= ", " > ", " >= "),
    (" | ",),
    (" & ",),
    (" + ", " - "),
    (" * ", " / ", " // ", " % ", " @ "),
]
_TARGET = re.compile(r"(return |[\w., ]+ = )(?=.)")
_CHAIN = re.compile(r"(return |[\w., ]+ = )(?=[\w.]+\()")
_TRAILER = re.compile(r"(\.\w+|\(\)|\[\])*")
_SIMPLE = re.compile(r"-?\w*")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_POWER = re.compile(
    r"(?<![\w.)\]])((?:[A-Za-z_]\w*)(?:\.\w+)*|\d+(?:\.\d+)?) \*\* (-?(?:[A-Za-z_][\w.]*|\d+(?:\.\d+)?))(?![\w.(\[])"
)


def fit(line: str, indent: int) -> list[str]:
    """The lines of a statement, at an indentation that is not part of them."""
    line = _slices(_POWER.sub(r"\1**\2", line))
    depth = len(line) - len(line.lstrip(" "))
    if depth:
        return [" " * depth + part for part in fit(line.lstrip(" "), indent + depth)]
    if len(line) + indent <= LIMIT or (parts := _split(line, indent)) is None:
        return [line]
    if (target := _CHAIN.match(line)) and len(_dots(chain := line[target.end() :])) >= 2:
        return [f"{target[0]}(", *(f"    {part}" for part in _fluent(chain, indent + 4)), ")"]
    if (target := _TARGET.match(line)) and _breaks_at_operators(line[target.end() :]):
        return [f"{target[0]}(", *(f"    {part}" for part in _operands(line[target.end() :], indent + 4)), ")"]
    head, body, tail = parts
    if len(body) + indent + 4 <= LIMIT:
        return [head, f"    {body}", tail]
    grouped = (
        head[-1] == "(" and (len(head) == 1 or head[-2] in " ([{-~") and len(_items(body)) == 1
    )  # no call, no tuple
    inner = _operands(body, indent + 4) if grouped else _apart(body, indent + 4)
    return [head, *(f"    {part}" for part in inner), tail]


def _dots(chain: str) -> list[int]:
    """Where methods are called on what ends in a bracket: the dots of `x.f().g()[0].h()` but the first."""
    found, depth = [], 0
    for i, char in enumerate(chain):
        depth += (char in "([{") - (char in ")]}")
        if char == " " and not depth:
            return []
        if char == "." and not depth and chain[i - 1] in ")]":
            found.append(i)
    return found


def _fluent(chain: str, indent: int) -> list[str]:
    """A chain of calls on one line, or a call on each."""
    if len(chain) + indent <= LIMIT:
        return [chain]
    cuts = _dots(chain)
    first = chain[: chain.index(".")]
    if first.isidentifier() and len(first) > 4:  # a shorter name keeps its first call
        cuts = [len(first), *cuts]
    return [
        part for start, end in zip([0, *cuts], [*cuts, None], strict=True) for part in fit(chain[start:end], indent)
    ]


def _apart(body: str, indent: int) -> list[str]:
    """What stands in brackets, each item on lines of its own; a comprehension breaks before its `for`."""
    if len(clauses := _items(body, " for ")) > 1:
        return [part for i, clause in enumerate(clauses) for part in fit(f"{'for ' if i else ''}{clause}", indent)]
    return [part for item in _items(body) for part in _operands(f"{item},", indent)]


def _breaks_at_operators(expression: str) -> bool:
    """Whether a long value is put in brackets of its own: it joins several terms, or two of which none ends in one."""
    terms = len(_terms(expression))
    return terms > 2 or (terms == 2 and expression[-1] not in ")]")


def _operands(expression: str, indent: int) -> list[str]:
    """What stands in brackets on one line, or with a line for each operand of its loosest operators."""
    if len(expression) + indent <= LIMIT:
        return [expression]
    return [part for term in _terms(expression) for part in fit(term, indent)]


def _terms(expression: str) -> list[str]:
    """The operands of the loosest operators, each but the first with its operator before it."""
    if any(len(_items(expression, word)) > 1 for word in (" if ", " for ", "lambda ")):
        return [expression]
    for level in OPERATORS:
        cuts = sorted(at for sign in level for at in _places(expression, sign))
        if cuts:
            return [
                expression[start:end].strip() for start, end in zip([0, *cuts], [*cuts, len(expression)], strict=True)
            ]
    return [expression]


def _slices(line: str) -> str:
    """Colons of slices: `x[1:n]`, and with space where a bound is more than a name, `x[: self.n]`."""
    for opening in reversed([found.start() for found in re.finditer(r"(?<=[\w)\]])\[", line)]):
        start, end = opening + 1, _closing(line, opening)
        items = [_slice(item) if ":" in item else item for item in _pieces(line[start:end], ",")]
        line = line[:start] + ",".join(items) + line[end:]
    return line


def _slice(item: str) -> str:
    bounds = [bound.strip() for bound in _pieces(item, ":")]
    if len(bounds) == 1:
        return item
    space = "" if all(_SIMPLE.fullmatch(bound) for bound in bounds) else " "
    text = "".join(
        f"{space if bound and i else ''}{bound}{space if bound and i + 1 < len(bounds) else ''}:"
        for i, bound in enumerate(bounds)
    )
    return item[: len(item) - len(item.lstrip())] + text[:-1]


def _closing(line: str, opening: int) -> int:
    """Where the bracket that opens here closes."""
    depth = 0
    for i in range(opening, len(line)):
        depth += (line[i] in "([{") - (line[i] in ")]}")
        if not depth:
            return i
    return len(line)


def _split(line: str, indent: int) -> tuple[str, str, str] | None:
    """The line around the brackets that break: the parameters of a function, else the last that have something in them
    or, in a chain of calls, the first without which the line up to the next would be too long.
    """
    groups = _groups(line)
    if not groups:
        return None
    start, end = groups[0] if line.startswith("def ") else groups[-1]
    for (first, last), (following, _) in reversed(list(pairwise(groups))):
        if not _TRAILER.fullmatch(line[last + 1 : following]) or line.startswith("def "):
            break
        if following + 1 + indent > LIMIT:
            start, end = first, last
    return line[: start + 1], line[start + 1 : end], line[end:]


def _groups(line: str) -> list[tuple[int, int]]:
    """Where the outermost brackets that have something in them open and close."""
    stack: list[int] = []
    found: list[tuple[int, int]] = []
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote and line[i - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif char in _PAIRS:
            stack.append(i)
        elif char in _PAIRS.values() and stack:
            start = stack.pop()
            if not stack and i > start + 1:
                found.append((start, i))
    return found


def _places(text: str, sign: str) -> list[int]:
    """Where a sign stands in no brackets or quotes."""
    found, depth, quote = [], 0, ""
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[i - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif not depth and text.startswith(sign, i):
            found.append(i)
        depth += 0 if quote else (char in "([{") - (char in ")]}")
    return found


def _pieces(text: str, sign: str) -> list[str]:
    """The text between the places of a sign."""
    cuts = _places(text, sign)
    return [text[a:b] for a, b in zip([0, *(at + len(sign) for at in cuts)], [*cuts, len(text)], strict=True)]


def _items(body: str, separator: str = ",") -> list[str]:
    """The pieces between the separators, without an empty one at the end."""
    pieces = [piece.strip() for piece in _pieces(body, separator)]
    return pieces if pieces[-1] else pieces[:-1]


def logical(text: str) -> Iterator[str]:
    """The statements of a text, each on one line however it stands there; docstrings stay as they are."""
    statement, quoted = "", False
    for line in text.splitlines():
        quotes = line.count('"""')
        if quoted or quotes:
            yield line
            quoted ^= quotes % 2 == 1
            continue
        statement = _joined(statement, line.strip()) if statement else line
        code = statement.partition("  # ")[0]
        if sum(map(code.count, "([{")) <= sum(map(code.count, ")]}")):
            yield statement
            statement = ""


def _joined(statement: str, line: str) -> str:
    """A statement and its next line."""
    if line[:1] and line[0] in ")]}":
        return f"{statement.removesuffix(',')}{line}"
    return f"{statement}{'' if statement[-1] in '([{' else ' '}{line}"
