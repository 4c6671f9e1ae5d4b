"""Variables of a `forward`: who holds a name, who still reads it, and values that are written where they are used."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from archlang.emit import names
from archlang.primitive import Term
from archlang.primitives.broadcast import LEVELS, level, merged

IDENTIFIER = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*")
ATOM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\])*")
SLOT = re.compile("\ue002(\\d+)(-?)\ue003")  # the place of an operand in code under way; `-`: before its split
_OPERATOR = r"(\*\*|//|==|!=|<=|>=|[-+*/%@&|<>]|and|or|not|if|else|in)"
_BEFORE = re.compile(rf"{_OPERATOR} $|(?<![\w)\]\ue001\ue003] )(?<![\w)\]])([-~])$")
_AFTER = re.compile(rf"^ {_OPERATOR} ")


def place(text: str, term: Callable[[int], Term]) -> str:
    """The text with terms in its slots, in parentheses where what stands beside them would tear them apart."""

    def fill(match: re.Match[str]) -> str:
        filling = term(int(match[1]))
        if match[2] and filling.split:
            filling = Term(filling.split.code, ())
        if filling.tight:
            return filling.code
        before, after = text[: match.start()], text[match.end() :]
        left, right = _BEFORE.search(before), _AFTER.match(after)
        own = level(filling)
        torn = after.startswith((".", "[", "("))
        torn |= left is not None and own <= (LEVELS.get(left[1], 0) if left[1] else 6)
        torn |= right is not None and own < LEVELS.get(right[1], 0) + (
            LEVELS.get(right[1]) in (1, 7)
        )  # `a < b < c` is a chain
        return f"({filling.code})" if torn else filling.code

    return merged(SLOT.sub(fill, text))


def opened(i: int, term: Term) -> Term:
    """A slot for an operand that is not written yet."""
    split = term.split and replace(term.split, code=f"\ue002{i}-\ue003")
    return Term(f"\ue002{i}\ue003", term.order, split=split)


def is_atom(code: str) -> bool:
    """A name or attribute: free to repeat."""
    return ATOM.fullmatch(code) is not None


@dataclass(slots=True)
class Held:
    """A value that later code reads `uses` times: a variable, or an expression over `reads` not yet written."""

    term: Term
    uses: int
    reads: tuple[str, ...]
    pending: bool


class Scope:
    """The names of one function."""

    def __init__(self, fixed: Iterable[str]) -> None:
        self._fixed = set(fixed)  # names that are never bound anew
        self._readers: Counter[str] = Counter()  # values that still read a variable
        self._known: set[str] = set()

    def free(self, name: str) -> bool:
        return name not in self._fixed and not self._readers[name]

    def fix(self, name: str) -> str:
        """A name for the whole function."""
        name = names.numbered(names.local(name), lambda n: n not in self._fixed and n not in self._known)
        self._fixed.add(name)
        self._known.add(name)
        return name

    def pick(self, *wanted: str) -> str:
        """A name that is free now: the first of the wanted that is, else the last with a number."""
        for name in wanted:
            if self.free(names.local(name)):
                break
        name = names.numbered(names.local(name), self.free)
        self._known.add(name)
        return name

    def reads(self, code: str) -> tuple[str, ...]:
        """The variables that an expression reads."""
        return tuple(dict.fromkeys(name for name in IDENTIFIER.findall(code) if name in self._known))

    def hold(self, reads: Iterable[str]) -> None:
        self._readers.update(reads)

    def release(self, reads: Iterable[str]) -> None:
        self._readers.subtract(reads)


def sequence(codes: list[str], lists: Mapping[str, int]) -> str:
    """A list of values; the items of one list in order, or in reverse, are that list. What all layers of a list hold
    is written once.
    """
    for name, length in lists.items():
        if codes == [f"{name}[{i}]" for i in range(length)]:
            return name
        if codes == [f"{name}[{i}]" for i in reversed(range(length))]:
            return f"reversed({name})"
    held, index, path = codes[0].partition("[0].")
    if index and len(codes) > 1 and codes == [f"{held}[{i}].{path}" for i in range(len(codes))]:
        return f"[layer.{path} for layer in {held}]"
    return f"[{', '.join(codes)}]"
