"""Variables of a `forward`: who holds a name, who still reads it, and values that are written in place where they are used."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from archlang.emit import names
from archlang.primitive import Term

IDENTIFIER = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*")
ATOM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\])*")


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
