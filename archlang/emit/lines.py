"""Long statements over several lines, as `ruff format` breaks them."""

import re

LIMIT = 120
_CHAIN = re.compile(r"(return |[\w., ]+ = )(?=[\w.]+\()")
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
    if len(line) + indent <= LIMIT or (parts := _split(line)) is None:
        return [line]
    if (target := _CHAIN.match(line)) and len(_dots(chain := line[target.end() :])) >= 2:
        return [f"{target[0]}(", *(f"    {part}" for part in _fluent(chain, indent + 4)), ")"]
    head, body, tail = parts
    if len(body) + indent + 4 <= LIMIT:
        return [head, f"    {body}", tail]
    return [head, *(f"    {part}" for part in _apart(body, indent + 4)), tail]


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


def _split(line: str) -> tuple[str, str, str] | None:
    """The line around its last pair of brackets that has something in it."""
    stack: list[tuple[str, int]] = []
    last: tuple[int, int] | None = None
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote and line[i - 1] != "\\" else quote
        elif char in "\"'":
            quote = char
        elif char in _PAIRS:
            stack.append((char, i))
        elif char in _PAIRS.values() and stack:
            _, start = stack.pop()
            if not stack and i > start + 1:
                last = (start, i)
    if last is None:
        return None
    return line[: last[0] + 1], line[last[0] + 1 : last[1]], line[last[1] :]


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
