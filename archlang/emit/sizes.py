"""Symbolic sizes in `forward`: every size as an expression in the sizes of the inputs at hand."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from archlang.emit import names
from archlang.ir import Graph
from archlang.shapes import Axis
from archlang.sizes import (
    Atom,
    Monomial,
    Poly,
    Rational,
    Size,
    denominator,
    divide,
    floor,
    maximum,
    minimum,
    product,
    symbol,
    symbols,
)  # fmt: skip

_FUNCTIONS: dict[str, Callable[..., Size]] = {"floor": floor, "max": maximum, "min": minimum, "quotient": divide}

PAST = "past"  # the symbol of the positions of time before those at hand


@dataclass(frozen=True, slots=True)
class Place:
    """An axis of an input: `port.shape[position]`, read into the variable `name`."""

    port: str
    axis: Axis
    name: str


class LocalSizes:
    """Solves for the free sizes of a graph from the sizes of its inputs, which have names of their own here."""

    def __init__(self, places: Iterable[Place], past: str = "") -> None:
        self.past = past  # the variable for the positions before those at hand, in a module that decodes
        self.used: set[str] = set()  # variables that the code reads
        self.extra: dict[str, str] = {}  # free sizes that no input tells: arguments of forward
        self._places = [place for place in places if isinstance(place.axis.size, Poly)]
        self._known: dict[Atom, Size] = {}

    @cached_property
    def _exact(self) -> dict[Size, str]:
        """What the inputs say outright."""
        return {place.axis.size: place.name for place in reversed(self._places)}

    @cached_property
    def defining(self) -> set[Place]:
        """The axes that free sizes are solved from."""
        waiting, found = self._places, set()
        for _ in self._places:
            found |= (learnt := {place for place in waiting if self._learn(place)})
            waiting = [place for place in waiting if place not in learnt]
        return found

    def _learn(self, place: Place) -> bool:
        """Solve the size of an axis for its one unknown atom, where it is linear in it."""
        size = self._local(place.axis.size)
        terms = size.terms if isinstance(size, Poly) else ()
        unknown = {atom for term, _ in terms for atom, _ in term if not _is_local(atom)}
        holding = [(term, factor) for term, factor in terms if unknown & set(dict(term))]
        if len(unknown) != 1 or len(holding) != 1:
            return False
        (atom,), ((term, factor),) = unknown, holding
        if dict(term)[atom] != 1:
            return False
        others = product([factor, *(_power_of(item) for item in term if item[0] != atom)])
        self._known[atom] = divide(symbol("$" + place.name) - (size - _power_of((atom, 1)) * others), others)
        return True

    def _local(self, size: Size) -> Size:
        if not isinstance(size, Poly):
            return size
        total: Size = 0
        for term, factor in size.terms:
            part: Size = factor
            for atom, power in term:
                part = part * self._atom(atom) ** power
            total = total + part
        return total

    def _atom(self, atom: Atom) -> Size:
        """What an atom is in local sizes, as far as it is known."""
        if atom in self._known:
            return self._known[atom]
        if not atom.arguments:
            return symbol(atom.name)
        return _FUNCTIONS[atom.name](*(self._local(argument) for argument in atom.arguments))

    def express(self, size: Poly) -> Size:
        """The size in local symbols, whose names begin with `$`; free sizes that no input tells become arguments."""
        if size in self._exact:
            return self._read(symbol("$" + self._exact[size]))
        for known, name in self._exact.items():
            ratio = divide(size, known)
            if not isinstance(ratio, Poly):
                return self._read(symbol("$" + name) * ratio)
        return self._read(self._local(size) if self.defining else size)

    def _read(self, size: Size) -> Size:
        for name in size.symbols if isinstance(size, Poly) else ():
            if name.startswith("$"):
                self.used.add(name[1:])
            else:
                self.extra.setdefault(name, self.past if name == PAST else f"{name}_size")
        return size

    def solved(self, size: Poly, number: Callable[[Rational], str]) -> str:
        """Python for the size, from the axes that free sizes are solved from."""
        local = self._read(self._local(size)) if self.defining else size
        return spell(local, self._variable, number)

    def _variable(self, name: str) -> str:
        return name[1:] if name.startswith("$") else self.extra[name]

    def text(self, size: Poly, number: Callable[[Rational], str]) -> str:
        """Python for the size."""
        return spell(self.express(size), self._variable, number)


def _is_local(atom: Atom) -> bool:
    """Whether an atom is made of sizes of the inputs at hand."""
    return atom.name.startswith("$") or (bool(atom.arguments) and all(_all_local(size) for size in atom.arguments))


def _all_local(size: Size) -> bool:
    return all(name.startswith("$") for name in symbols(size))


def _power_of(item: tuple[Atom, int]) -> Poly:
    return Poly((((item,), 1),))


def spell(size: Size, name: Callable[[str], str], number: Callable[[Rational], str] = str) -> str:
    """A size as a Python expression of ints; exact quotients are written `//`."""
    if not isinstance(size, Poly):
        return number(size)
    if (scale := denominator(size)) != 1:
        return f"{_tight(spell(size * scale, name, number))} // {number(scale)}"
    ordered: list[tuple[Monomial, Rational]] = sorted(size.terms, key=lambda term: (term[1] < 0, not term[0]))
    text = ""
    for i, (term, factor) in enumerate(ordered):
        sign = ("-" if i == 0 else " - ") if factor < 0 else ("" if i == 0 else " + ")
        factors = [_power(_spell_atom(atom, name, number), power) for atom, power in term]
        if abs(factor) != 1 or not factors:
            factors.insert(0, number(factor if factor > 0 else -factor))
        if len(factors) > 1 or sign.strip():
            factors = [_tight(text) if " // " in text else text for text in factors]
        text += sign + " * ".join(factors)
    return text


def _spell_atom(atom: Atom, name: Callable[[str], str], number: Callable[[Rational], str]) -> str:
    if not atom.arguments:
        return name(atom.name)
    if atom.name == "floor":
        return spell(atom.arguments[0], name, number)
    texts = [spell(argument, name, number) for argument in atom.arguments]
    if atom.name == "quotient":
        return f"{_tight(texts[0])} // {_tight(texts[1])}"
    return f"{atom.name}({', '.join(texts)})"


def _tight(text: str) -> str:
    return f"({text})" if " " in text and not _is_call(text) else text


def _is_call(text: str) -> bool:
    """Whether `max(..)` or `min(..)` is all of it."""
    open_ = accumulate((letter == "(") - (letter == ")") for letter in text)
    return text.startswith(("max(", "min(")) and 0 not in list(open_)[len("max") : -1]


def _power(text: str, power: int) -> str:
    return text if power == 1 else f"{_tight(text)} ** {power}"


def places(graph: Graph, fix: Callable[[str], str]) -> list[Place]:
    """The axes of the inputs whose sizes are not known, with a name for each."""
    taken = {names.local(node.name) for node in graph if node.name}
    found: list[Place] = []
    for port, value in graph.inputs.items():
        for axis in value.type:
            if isinstance(axis.size, Poly):
                name = axis.name if axis.name not in taken else f"{axis.name}_size"
                found.append(Place(port, axis, fix(name)))
    return found
