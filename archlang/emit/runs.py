"""Runs in `nn.ModuleList`: items that differ only in numbers are written as a comprehension."""

import re
from typing import Any

from archlang.emit import marks, names

_RUN = re.compile(f"{marks.RUN}(.*?){marks.TIMES}{marks.MARK.pattern}{marks.RUN_END}")


def settle(columns: dict[int, list[Any]]) -> None:
    """Columns of values that are equal within each instance become plain ones."""
    for mark, column in columns.items():
        if all(isinstance(values, marks.Column) for values in column) and all(
            len(set(map(repr, values))) == 1 for values in column
        ):
            columns[mark] = [values[0] for values in column]


def resolve(line: str, columns: dict[int, list[Any]], hints: dict[int, str]) -> str:
    """The line with its runs written out; columns that vary become tuples."""
    whole = line.count(marks.RUN) == 1 and f"([{marks.RUN}" in line and f"{marks.RUN_END}])" in line
    if whole and not _single(columns[int(_RUN.search(line)[2])]):  # type: ignore[index]
        return _RUN.sub(
            lambda match: _written(match, columns, hints),
            line.replace(f"[{marks.RUN}", marks.RUN).replace(f"{marks.RUN_END}]", marks.RUN_END),
        )

    def item(match: re.Match[str]) -> str:
        text = _written(match, columns, hints)
        return text if _single(columns[int(match[2])]) else f"*({text})"

    return _RUN.sub(item, line)


def _single(counts: list[int]) -> bool:
    return all(count == 1 for count in counts)


def _written(match: re.Match[str], columns: dict[int, list[Any]], hints: dict[int, str]) -> str:
    """`Block(dim, rate=rate) for rate in rates`."""
    code, count = match[1], int(match[2])
    if _single(columns[count]):
        return code
    varying = [mark for mark in marks.marks([code]) if isinstance(columns[mark][0], marks.Column)]
    variables: dict[int, str] = {}
    for mark in varying:
        variables[mark] = names.numbered(names.local(hints[mark]), lambda name: name not in variables.values())
        columns[mark] = [tuple(values) for values in columns[mark]]
    body = marks.MARK.sub(lambda m: variables.get(int(m[1]), m[0]), code)
    over = [f"{marks.OPEN}{mark}{marks.CLOSE}" for mark in varying] or [f"range({marks.OPEN}{count}{marks.CLOSE})"]
    source = over[0] if len(over) == 1 else f"zip({', '.join(over)})"
    loop = f"for {', '.join(variables.values()) or '_'} in {source}"
    return f"module {loop} for module in {body}" if body.startswith("(") else f"{body} {loop}"
