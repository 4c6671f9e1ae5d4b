"""`__init__`: the lines that make modules, parameters and buffers."""

import re
from collections.abc import Iterator
from math import prod

from archlang.emit import marks, names
from archlang.emit.draft import Declaration, Draft, is_list

PERIOD = 6  # so many modules may take turns, as five kinds of attention in a window and one without


def init_lines(draft: Draft) -> list[str]:
    """The declarations of a draft in order; those under `name.0`, `name.1` ... as one list."""
    groups: dict[str, dict[str, Declaration]] = {}
    for label, declaration in draft.declarations.items():
        if not label.startswith("@"):
            base, _, index = label.partition(".")
            groups.setdefault(base, {})[index] = declaration
    lines: list[str] = []
    for base, members in groups.items():
        lines += _single(base, members[""]) if "" in members else _several(draft, base, members)
        for index, declaration in members.items():
            path = draft.reach(f"{base}.{index}" if index else base)
            lines += [f"{path}.{leaf} = nn.Parameter({_plain(code)})" for leaf, code in declaration.starts]
    return lines


_SHAPED = re.compile(r"(torch\.(?:ones|zeros|empty|rand|randn))\(\(([^()]+?),?\)\)")
_EXPONENT = re.compile(r"(?<=\de)([+-]?)0+(?=\d)")


def _plain(code: str) -> str:
    """`torch.ones((8,)) * 1e-06` as people write it: `torch.ones(8) * 1e-6`."""
    return _EXPONENT.sub(r"\1", _SHAPED.sub(r"\1(\2)", code))


def _single(label: str, declaration: Declaration) -> list[str]:
    code = _plain(declaration.code)
    code = f"nn.Parameter({code})" if declaration.kind == "parameters" else code
    if not names.is_attribute(label):
        return [f'self._{declaration.kind}["{label}"] = {code}']
    if declaration.kind == "buffers":
        persistent = "" if declaration.persistent else ", persistent=False"
        return [f'self.register_buffer("{label}", {code}{persistent})']
    return [f"self.{label} = {code}"]


def _several(draft: Draft, base: str, members: dict[str, Declaration]) -> list[str]:
    """`nn.ModuleList`; runs of members that differ only in numbers are marked as one."""
    if not is_list(list(members)):
        items = ", ".join(f'"{index}": {members[index].code}' for index in sorted(members, key=_place))
        return _single(base, Declaration("modules", f"nn.ModuleDict({{{items}}})"))
    codes = [members[str(index)].code for index in range(len(members))]
    return _single(
        base, Declaration("modules", f"nn.ModuleList([{', '.join(_run(draft, run) for run in _runs(codes))}])")
    )


def _runs(codes: list[str]) -> Iterator[list[str]]:
    """What repeats, as the codes of each turn: one module, or a few that take turns."""
    kinds = [marks.MARK.sub("#", code) for code in codes]
    at = 0
    while at < len(codes):
        turn, count = max(((turn, _turns(kinds[at:], turn)) for turn in range(1, PERIOD + 1)), key=prod)
        cut = codes[at : at + turn * count]
        yield cut if turn == 1 else [f"({', '.join(cut[i : i + turn])})" for i in range(0, len(cut), turn)]
        at += turn * count


def _turns(kinds: list[str], turn: int) -> int:
    """How often the first `turn` kinds stand one behind the other; 0 where they do not repeat."""
    count = next((n for n in range(1, len(kinds)) if kinds[n * turn : (n + 1) * turn] != kinds[:turn]), len(kinds))
    return count if turn == 1 or count > 1 else 0


def _run(draft: Draft, codes: list[str]) -> str:
    """`Block(dim, rate=rate)` with a column of values in each mark, and the count."""
    columns = zip(*([int(mark) for mark in marks.MARK.findall(code)] for code in codes), strict=True)
    made = iter(
        [draft.mark(marks.Column(draft.values[mark] for mark in column), draft.hints[column[0]]) for column in columns]
    )
    count = draft.mark(len(codes), "depth")
    return f"{marks.RUN}{marks.MARK.sub(lambda _: next(made), codes[0])}{marks.TIMES}{count}{marks.RUN_END}"


def _place(index: str) -> tuple[bool, int, str]:
    return not index.isdigit(), int(index) if index.isdigit() else 0, index
