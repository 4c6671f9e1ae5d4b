"""Long statements over several lines, as `ruff format` breaks them."""

import re
from itertools import pairwise

LIMIT = 120
_CHAIN = re.compile(r"(return |[\w., ]+ = )(?=[\w.]+\()")
_TRAILER = re.compile(r"(\.\w+|\(\)|\[\])*")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_POWER = re.compile(
    r"(?<![\w.)\]])((?:[A-Za-z_]\w*)(?:\.\w+)*|\d+(?:\.\d+)?) \*\* (-?(?:[A-Za-z_][\w.]*|\d+(?:\.\d+)?))(?![\w.(\[])"
)


def fit(line: str, indent: int) -> list[str]:
    """The lines of a statement, at an indentation that is not part of them."""
    line = _POWER.sub(r"\1**\2", line)
    depth = len(line) - len(line.lstrip(" "))
    if depth:
        return [" " * depth + part for part in fit(line.lstrip(" "), indent + depth)]
    if len(line) + indent <= LIMIT or (parts := _split(line, indent)) is None:
        return [line]
    if (target := _CHAIN.match(line)) and len(_dots(chain := line[target.end() :])) >= 2:
        return [f"{target[0]}(", *(f"    {part}" for part in _fluent(chain, indent + 4)), ")"]
    head, body, tail = parts
    if len(body) + indent + 4 <= LIMIT:
        return [head, f"    {body}", tail]
    grouped = (
        head[-1] == "(" and (len(head) == 1 or head[-2] in " ([{-~") and len(_items(body)) == 1
    )  # no call, no tuple
    inner = fit(body, indent + 4) if grouped else _apart(body, indent + 4)
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
    if chain[: chain.index(".")].isidentifier():
        cuts = [chain.index("."), *cuts]
    return [
        part for start, end in zip([0, *cuts], [*cuts, None], strict=True) for part in fit(chain[start:end], indent)
    ]


def _apart(body: str, indent: int) -> list[str]:
    """What stands in brackets, each item on lines of its own; a comprehension breaks before its `for`."""
    if len(clauses := _items(body, " for ")) > 1:
        return [part for i, clause in enumerate(clauses) for part in fit(f"{'for ' if i else ''}{clause}", indent)]
    return [part for item in _items(body) for part in fit(f"{item},", indent)]


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


def _items(body: str, separator: str = ",") -> list[str]:
    """The pieces between the separators that are in no brackets or quotes."""
    items, depth, start, quote = [], 0, 0, ""
    for i, char in enumerate(body):
        if quote:
            quote = "" if char == quote and body[i - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif not depth and i >= start and body.startswith(separator, i):
            items.append(body[start:i].strip())
            start = i + len(separator)
    return [*items, rest] if (rest := body[start:].strip()) else items
