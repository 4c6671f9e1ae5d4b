"""From drafts to classes: names of classes and arguments, and the text of each."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from archlang.emit import marks, names, runs, switches
from archlang.emit.draft import Draft
from archlang.emit.lines import fit

_CALLED = re.compile(r"(?<![.\w])([a-z]\w*)\(")  # functions: an argument of that name would hide them
_SAME = re.compile(r" *(\w+) = \1")  # what a switch that is off may leave
_AXIS_WORDS = {"c": "dim", "h": "height", "w": "width", "d": "depth", "t": "length", "n": "tokens", "b": "batch"}


@dataclass(slots=True)
class Class:
    """A class of the module: one text for all instances in `drafts`."""

    name: str
    drafts: list[Draft]
    init: list[str]
    derive: list[str]
    forward: list[str]
    arguments: list[tuple[str, list[Any]]]  # (name, value in each instance)
    spellings: dict[int, str]  # how each mark is written

    @property
    def draft(self) -> Draft:
        return self.drafts[0]

    def values(self, draft: Draft) -> tuple[tuple[str, Any], ...]:
        """The arguments of one instance."""
        return tuple((name, column[draft.place]) for name, column in self.arguments)

    def init_lines(self) -> list[str]:
        return self._written([*(f"self.{name} = {name}" for name in self.stored()), *self.init], prefix="")

    def derive_lines(self) -> list[str]:
        return self._written(self.derive, prefix="self.")

    def forward_lines(self) -> list[str]:
        return self._written(self.forward, prefix="self.")

    def stored(self) -> list[str]:
        """The arguments that methods read."""
        read = {word for mark in marks.marks([*self.derive, *self.forward]) for word in self.spellings[mark].split(" ")}
        return [name for name, _ in self.arguments if name in read]

    def _written(self, lines: Sequence[str], prefix: str) -> list[str]:
        arguments = {name for name, _ in self.arguments}

        def spell(mark: int) -> str:
            return " ".join(
                f"{prefix}{word}" if word in arguments else word for word in self.spellings[mark].split(" ")
            )

        return [part for line in lines for part in fit(marks.substitute(line, spell), 8)]


def unify(name: str, drafts: list[Draft]) -> Class:
    """One class for drafts with equal skeletons: what differs between them becomes arguments."""
    for place, draft in enumerate(drafts):
        draft.place = place
    columns = {mark: [draft.values[mark] for draft in drafts] for mark in range(len(drafts[0].values))}
    hints = dict(enumerate(drafts[0].hints))
    runs.settle(columns)
    init = [runs.resolve(line, columns, hints) for line in drafts[0].init]
    derive, forward = (
        [text for line in lines if not _SAME.fullmatch(text := switches.resolve(line, columns))]
        for lines in (drafts[0].derive, drafts[0].forward)
    )
    used = marks.marks([*init, *derive, *forward])
    varying = {mark: marks.alike(columns[mark]) for mark in used if len(set(map(repr, columns[mark]))) > 1}
    arguments = Arguments(drafts, list(varying.values()))
    spellings = {mark: marks.literal(columns[mark][0]) for mark in used if mark not in varying}
    spellings |= {mark: arguments.spell(column, hints[mark]) for mark, column in varying.items()}
    return Class(name, drafts, init, derive, forward, arguments.ordered(), spellings)


class Arguments:
    """Chooses the arguments of a class: hyper-parameters by name, then sizes of input axes, then multiples of these."""

    def __init__(self, drafts: list[Draft], varying: list[list[Any]]) -> None:
        self._chosen: dict[str, list[Any]] = {}
        called = (name for made in drafts[0].declarations.values() for name in _CALLED.findall(made.code))
        self._taken = set(drafts[0].labels) | set(drafts[0].declarations) | set(called)
        hypers = [(name, [marks.plain(d.graph.hypers.get(name)) for d in drafts]) for name in drafts[0].graph.hypers]
        claimed = {names.field(name) for name, column in hypers if column in varying}
        axes = [(name, column) for name, column in _axis_columns(drafts) if name not in claimed]
        self._known = [(names.field(name), column) for name, column in [*hypers, *axes]]
        self._bases = [(names.field(name), column) for name, column in [*axes, *hypers]]

    def ordered(self) -> list[tuple[str, list[Any]]]:
        """Sizes of axes first, then hyper-parameters as the block has them, then the rest."""
        rank = {name: i for i, (name, _) in reversed(list(enumerate(self._bases)))}
        return sorted(self._chosen.items(), key=lambda item: rank.get(item[0], len(rank)))

    def spell(self, column: list[Any], hint: str) -> str:
        """How the values of a column are written."""
        for name, known in [*self._chosen.items(), *self._known]:
            if known == column and self._usable(name, column):
                return self._choose(name, column)
        for name, known in [*self._chosen.items(), *self._bases]:
            if (text := _multiple(column, known)) and self._usable(name, known):
                return text.format(self._choose(name, known))
        hint = f"{hint}s" if isinstance(column[0], tuple) and not hint.endswith("s") else hint
        return self._choose(names.numbered(names.field(hint), lambda n: self._usable(n, column)), column)

    def _usable(self, name: str, column: list[Any]) -> bool:
        return name not in self._taken and self._chosen.get(name, column) == column

    def _choose(self, name: str, column: list[Any]) -> str:
        self._chosen.setdefault(name, column)
        return name


def _axis_columns(drafts: list[Draft]) -> list[tuple[str, list[Any]]]:
    """The numeric sizes of the input axes with readable names."""
    found = []
    for place, port in enumerate(drafts[0].graph.inputs):
        types = [list(draft.graph.inputs.values())[place].type for draft in drafts]
        for axis in types[0]:
            column = [type_.size(axis.name) if axis.name in type_ else None for type_ in types]
            if all(isinstance(size, int) for size in column):
                word = _AXIS_WORDS.get(axis.name, axis.name)
                found += [(word, column), (f"in_{word}" if place == 0 else f"{port}_{word}", column)]
    return found


def _multiple(column: list[Any], base: list[Any]) -> str | None:
    """`4 * {}` or `{} // 32` where every value is that multiple of its base."""
    if not all(type(value) is int and value > 0 for value in [*column, *base]):
        return None
    for text, pairs in (
        ("{1} * {{}}", zip(column, base, strict=True)),
        ("{{}} // {1}", zip(base, column, strict=True)),
    ):
        ratios = [divmod(a, b) for a, b in pairs]
        if all(ratio == ratios[0] and ratio[1] == 0 for ratio in ratios):
            return text.format(None, ratios[0][0])
    return None


def class_namer(reserved: Callable[[str], bool]) -> Callable[[str], str]:
    """Gives each class a name of its own."""
    taken: set[str] = set()

    def pick(name: str) -> str:
        chosen = names.numbered(names.camel(name), lambda n: n not in taken and not reserved(n))
        taken.add(chosen)
        return chosen

    return pick
