"""Code that is written only where some instance needs it: a dropout whose rate is 0 everywhere is left out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from archlang.emit import marks
from archlang.emit.scope import place
from archlang.primitive import Term

_MARK, _PART = marks.MARK.pattern, f"([^{marks.IF}{marks.THEN}{marks.END}]*)"
_SWITCH = re.compile(f"{marks.IF}{_MARK}{_PART}{marks.THEN}{_PART}{marks.THEN}{_PART}{marks.END}")  # the innermost one
_OFF = re.compile(f"{marks.IF}{_MARK}{_PART}{marks.THEN}|{marks.THEN}{_PART}{marks.END}")


def resolve(line: str, columns: Mapping[int, Sequence[Any]]) -> str:
    """The line with its switches decided."""
    while match := _SWITCH.search(line):
        before, after = line[: match.start()], line[match.end() :]
        if any(columns[int(match[1])]):
            line = f"{before}{match[2]}{match[3]}{match[4]}{after}"
        else:
            inner = Term(match[3], (), tight=_is_tight(match[3]))
            line = place(f"{before}\ue0020\ue003{after}", lambda _, inner=inner: inner)  # type: ignore[misc]
    return line


def _is_tight(code: str) -> bool:
    """Whether code is a name, call or attribute: outside of brackets it has no operator, around which spaces stand."""
    depth = 0
    for letter in code:
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and letter in " -":
            return False
    return True


def width(code: str) -> int:
    """The length of code without what switches may leave out."""
    return len(_OFF.sub("", code))
