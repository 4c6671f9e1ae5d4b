"""Symbolic sizes in `forward`: every size as an expression in the sizes of the inputs at hand."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from archlang.shapes import Axis
from archlang.sizes import Atom, Monomial, Poly, Rational, Size, denominator, divide, floor, maximum, minimum, symbol

_FUNCTIONS: dict[str, Callable[..., Size]] = {"floor": floor, "max": maximum, "min": minimum, "quotient": divide}


@dataclass(frozen=True, slots=True)
class Place:
    """An axis of an input: `port.shape[position]`, read into the variable `name`."""

    port: str
    axis: Axis
    name: str


class LocalSizes:
    """Solves for the free sizes of a graph from the sizes of its inputs, which have names of their own here."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.used: set[str] = set()  # variables that the code reads
        self.extra: dict[str, str] = {}  # free sizes that no input tells: arguments of forward
        self.defining: set[Place] = set()  # the axes that free sizes are solved from
        self._exact: dict[Size, str] = {}
        self._known: dict[Atom, Size] = {}
        waiting = [place for place in places if isinstance(place.axis.size, Poly)]
        for place in waiting:
            self._exact.setdefault(place.axis.size, place.name)
        for _ in waiting:
            waiting = [place for place in waiting if not self._learn(place)]

    def _learn(self, place: Place) -> bool:
        """Solve the size of an axis for its one unknown atom, where it is linear in it."""
        size = self._local(place.axis.size)
        assert isinstance(size, Poly)
        unknown = {
            atom for term, _ in size.terms for atom, _ in term if not atom.name.startswith("$") and not _is_local(atom)
        }
        if len(unknown) != 1:
            return not unknown
        (atom,) = unknown
        with_atom = [(term, factor) for term, factor in size.terms if atom in dict(term)]
        if len(with_atom) != 1 or dict(with_atom[0][0])[atom] != 1:
            return False
        ((term, factor),) = with_atom
        others: Size = Poly(((tuple(item for item in term if item[0] != atom), factor),)) if len(term) > 1 else factor
        rest = size - Poly((with_atom[0],))
        self.defining.add(place)
        self._known[atom] = divide(symbol("$" + place.name) - rest, others)
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
        return self._read(self._local(size))

    def _read(self, size: Size) -> Size:
        for name in size.symbols if isinstance(size, Poly) else ():
            if name.startswith("$"):
                self.used.add(name[1:])
            else:
                self.extra.setdefault(name, f"{name}_size")
        return size

    def text(self, size: Poly, number: Callable[[Rational], str]) -> str:
        """Python for the size."""
        return spell(self.express(size), lambda name: name[1:] if name.startswith("$") else self.extra[name], number)


def _is_local(atom: Atom) -> bool:
    return bool(atom.arguments) and all(
        name.startswith("$") for a in atom.arguments if isinstance(a, Poly) for name in a.symbols
    )


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
            factors.insert(0, number(abs(factor)))
        if len(factors) > 1 or sign.strip():
            factors = [f"({text})" if " // " in text else text for text in factors]
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
    return f"({text})" if " " in text and not (text.startswith("max(") or text.startswith("min(")) else text


def _power(text: str, power: int) -> str:
    return text if power == 1 else f"{_tight(text)} ** {power}"
