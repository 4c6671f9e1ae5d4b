"""What operations on named axes share: broadcasting by name, positions of axes in emitted text, and operators in it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from types import new_class
from typing import Any

from archlang.facts import Facts
from archlang.primitive import Emission, OpError, Primitive, Term, axes_of, define, need_axes
from archlang.shapes import Axis, TensorType, promote
from archlang.sizes import Poly, Size


def join(facts: Facts, *types: TensorType) -> TensorType:
    """The type of values combined element by element: all axes, the widest value's first; dtypes promoted."""
    axes: dict[str, Axis] = {}
    for axis in (axis for type_ in sorted(types, key=lambda type_: -len(type_.axes)) for axis in type_):
        here = axes.setdefault(axis.name, axis)
        if here.role != axis.role:
            advice = (
                f"`{axis.name}` is {here.role} in one value and {axis.role} in the other: `rename` it, or say its role"
            )
            raise OpError("A210", "axis roles do not agree", axis.name, advice)
        if not facts.equal(here.size, axis.size):
            raise OpError("A204", "axis sizes do not agree", axis.name)
        if isinstance(here.size, Poly) and not isinstance(axis.size, Poly):
            axes[axis.name] = axis
    return TensorType(tuple(axes.values()), promote(*(type_.dtype for type_ in types)))


def one_axis(on: Iterable[str], type_: TensorType) -> str:
    """The single axis that `on` means."""
    need_axes(type_, on)
    names = axes_of(on, type_)
    if len(names) != 1:
        raise OpError(
            "A206", f"`on` must be one axis, and is {', '.join(f'`{name}`' for name in names) or 'none'}", "on"
        )
    return names[0]


def need_new(type_: TensorType, name: str, about: str) -> None:
    """Refuse to make an axis that is there already."""
    if name in type_:
        raise OpError("A206", f"there already is an axis `{name}` in {type_}", about)


def refuse(type_: TensorType, title: str, help: str | None = None, about: str = "x") -> OpError:
    """A dtype that the operation does not take."""
    return OpError("A214", f"{title}, not {type_.dtype}", about, help)


def need_order(x: TensorType, name: str, about: str = "x") -> None:
    """The numbers of x must have an order, which complex ones have not."""
    if x.dtype.startswith("complex"):
        raise refuse(x, f"`{name}` takes numbers that have an order", "`abs(x)`, `real(x)` or `imag(x)`", about)


def known(size: Size) -> int:
    """A size at run time."""
    assert not isinstance(size, Poly), size
    return int(size)


def derive(name: str, base: type[Primitive], facts: dict[str, Any]) -> None:
    """Make an operation known that differs from its base in facts alone."""
    body = {"__module__": base.__module__, "name": name, **facts}
    title = name.title().replace("_", "")
    define(name, lambda: new_class(title, (base,), exec_body=lambda space: space.update(body)))


# ---- text
def sequence(texts: Iterable[str]) -> str:
    """A tuple of expressions."""
    items = list(texts)
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def dims(term: Term, names: Iterable[str]) -> str:
    """The positions of axes: `1`, `-1`, `(1, 2)`."""
    places = sorted(term.order.index(name) for name in names)
    if len(places) == 1:
        return str(term.at(term.order[places[0]]))
    return f"({', '.join(map(str, places))})"


def index(term: Term, picks: dict[str, str]) -> str:
    """A term indexed along some axes, written as people do: `x[:, 0]`, `x[..., :64]`."""
    places = [picks.get(name, ":") for name in term.order]
    first = next(i for i, text in enumerate(places) if text != ":")
    if first == len(places) - 1 and first > 0:
        return f"{term.safe}[..., {places[first]}]"
    while places[-1] == ":":
        places.pop()
    return f"{term.safe}[{', '.join(places)}]"


_SUBSCRIPTS = re.compile(r"\[([^()\[\]]*)\]\[([^()\[\]]*)\]")
_FLATTENED = re.compile(r"\.flatten\((\d+)\)\.flatten\((\d+)\)")


def merged(text: str) -> str:
    """What stands twice in a row and is one: slices along other axes (`x[:, 0::2][:, :, 1::2]` is `x[:, 0::2, 1::2]`),
    and all axes from one on flattened, then all from an earlier one on.
    """
    before = ""
    while text != before:
        text, before = _SUBSCRIPTS.sub(lambda found: _merge(found[0], found[1], found[2]), text), text
        text = _FLATTENED.sub(lambda found: f".flatten({min(int(found[1]), int(found[2]))})", text)
    return text


def _merge(whole: str, first: str, second: str) -> str:
    pairs = list(zip_longest(first.split(", "), second.split(", "), fillvalue=":"))
    if not all(":" in a and b not in ("...", "None") and ":" in (a, b) for a, b in pairs):
        return whole
    return f"[{', '.join(b if a == ':' else a for a, b in pairs)}]"


def placed(code: Emission, term: Term, order: Sequence[str]) -> Term:
    """The term with exactly the axes `order`; those that it lacks have size 1."""
    term = code.permute(term, [name for name in order if name in term.order])
    missing = {name: "None" for name in order if name not in term.order}
    return Term(index(Term(term.code, tuple(order), term.tight), missing), tuple(order)) if missing else term


def spread(code: Emission, term: Term, order: Sequence[str], type_: TensorType) -> Term:
    """The term with exactly the axes `order`; those that it lacks are repeated, as often as `type_` says, uncopied."""
    here = [name for name in order if name in term.order]
    # axes that are missing at the front need no place of their own
    term = placed(code, term, order[order.index(here[0]) :] if here else [])
    if len(here) == len(order):
        return term
    sizes = ["-1" if name in here else code.size(type_.size(name)) for name in order]
    return Term(f"{term.safe}.expand({', '.join(sizes)})", tuple(order))


def floating(code: Emission, term: Term, type_: TensorType) -> Term:
    """Integers and truth values as the working type, so that results do not depend on torch's default dtype."""
    if "float" in type_.dtype or "complex" in type_.dtype:
        return term
    return replace(term, code=f"{term.safe}.to({code.working()})", tight=True)


# how tightly Python's operators bind
LEVELS = {
    "==": 1,
    "!=": 1,
    "<": 1,
    "<=": 1,
    ">": 1,
    ">=": 1,
    "|": 2,
    "&": 3,
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "//": 5,
    "%": 5,
    "**": 7,
}
_BRACKETS = re.compile(r'\([^()\[\]]*\)|\[[^()\[\]]*\]|"[^"]*"')


def level(term: Term) -> int:
    """How tightly the outermost operator of a term binds."""
    if term.tight:
        return 9
    text, inner = term.code, ""
    while text != inner:
        text, inner = _BRACKETS.sub("_", text), text
    words = text.split(" ")
    levels = [LEVELS.get(word, 0) for word in words[1::2]]
    return min([*levels, 6 if text.startswith(("-", "~")) else 9])


def infix(left: Term, symbol: str, right: Term) -> str:
    """`left symbol right` with the parentheses that it needs, and those that make bit operators plain."""
    binds = LEVELS[symbol]
    if binds <= 3:
        return f"{left.safe} {symbol} {right.safe}"
    a = left.code if level(left) >= binds + (symbol == "**") else f"({left.code})"
    return f"{a} {symbol} {right.code if level(right) > binds else f'({right.code})'}"
