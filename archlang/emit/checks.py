"""What a model checks of its inputs: ranks, sizes, and the conditions on free sizes, in its own terms."""

from collections.abc import Iterable, Mapping, Sequence

from archlang.emit.prose import fstring, printable
from archlang.emit.sizes import LocalSizes, Place
from archlang.facts import Condition
from archlang.shapes import TensorType
from archlang.sizes import Poly, Size, symbol, symbols

_NEGATED = {"==": "!=", "!=": "==", "<=": ">", "<": ">=", ">=": "<", ">": "<="}
_TURNED = {"==": "==", "!=": "!=", "<=": ">=", "<": ">"}


def quoted(text: str) -> str:
    """The text as part of an f-string."""
    return printable(text.replace("\\", "\\\\")).replace("{", "{{").replace("}", "}}")


def refusal(test: str, message: str) -> list[str]:
    """Raise where a test holds."""
    return [f"if {test}:", f"    raise ValueError({fstring(message)})"]


def shapes(types: Mapping[str, TensorType], variables: Mapping[str, str]) -> list[str]:
    """Ranks and known sizes of the inputs."""
    lines: list[str] = []
    for port, type_ in types.items():
        name = variables[port]
        tests = [f"{name}.ndim != {len(type_.axes)}", *_known(name, [axis.size for axis in type_])]
        about = f"{quoted(f'{port} must be {type_}')}, and is {{list({name}.shape)}}"
        lines += refusal(" or ".join(tests), about)
    return lines


def _known(name: str, sizes: Sequence[Size]) -> list[str]:
    """Tests of the sizes that are numbers; together where they are the last ones."""
    start = next((i for i in range(len(sizes)) if not any(isinstance(size, Poly) for size in sizes[i:])), len(sizes))
    single = [f"{name}.shape[{i}] != {size}" for i, size in enumerate(sizes[:start]) if not isinstance(size, Poly)]
    if len(sizes) - start > 1:
        return [*single, f"{name}.shape[{start or ''}:] != ({', '.join(map(str, sizes[start:]))})"]
    return [*single, *(f"{name}.shape[{start}] != {size}" for size in sizes[start:])]


def agreements(
    sizes: LocalSizes, places: Iterable[Place], types: Mapping[str, TensorType], variables: Mapping[str, str]
) -> list[str]:
    """Free sizes that several inputs tell must agree."""
    lines: list[str] = []
    for place in places:
        at = types[place.port].names.index(place.axis.name)
        assert isinstance(place.axis.size, Poly)
        if place not in sizes.defining:
            text = sizes.solved(place.axis.size, str)
            actual = f"{variables[place.port]}.shape[{at}]"
            words = quoted(f"axis {place.axis.name} of {place.port} must be {place.axis.size}")
            lines += refusal(f"{actual} != {text}", f"{words} = {{{text}}}, and is {{{actual}}}")
    return lines


def conditions(sizes: LocalSizes, given: Iterable[tuple[Condition, str]]) -> list[str]:
    """The conditions on free sizes, less those that others imply."""
    known = dict(given)
    lines: list[str] = []
    for condition, message in known.items():
        if any(_implies(other, condition) for other in known):
            continue
        test, words = _broken(sizes, condition)
        names = sorted(symbols(condition.left) | symbols(condition.right))
        values = ", ".join(f"{quoted(name)} = {{{_text(sizes, symbol(name))}}}" for name in names)
        about = quoted(f"{message}: {words}" if message else words)
        lines += refusal(test, f"{about}, and {values}")
    return lines


def _broken(sizes: LocalSizes, condition: Condition) -> tuple[str, str]:
    """The test that a condition does not hold, and what it asks for in words."""
    left, op, right = condition.left, condition.op, condition.right
    if op == "%":
        return (
            f"{_tight(_text(sizes, left))} % {_tight(_text(sizes, right))} != 0",
            f"{left} must be a multiple of {right}",
        )
    if not isinstance(left, Poly):  # `h < 16` reads better than `16 > h`
        left, op, right = right, _TURNED[op], left
    return f"{_text(sizes, left)} {_NEGATED[op]} {_text(sizes, right)}", f"{left} {op} {right} must hold"


def _implies(stronger: Condition, weaker: Condition) -> bool:
    """`32 | h` implies `8 | h`, and `16 <= h`, for no size is 0."""
    if stronger == weaker or stronger.op != "%" or not isinstance(stronger.right, int):
        return False
    if weaker.op == "%" and isinstance(weaker.right, int):
        return stronger.left == weaker.left and stronger.right % weaker.right == 0
    at_least = weaker.left if weaker.op == "<=" and isinstance(weaker.left, int) else 0
    return stronger.left == weaker.right and 0 < at_least <= stronger.right


def _text(sizes: LocalSizes, size: Size) -> str:
    return sizes.text(size, str) if isinstance(size, Poly) else str(size)


def _tight(text: str) -> str:
    return f"({text})" if " " in text else text
