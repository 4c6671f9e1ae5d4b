"""What convolutions and their adjoints share."""

from collections.abc import Iterable

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import OpError, Primitive, Term
from archlang.primitives.sliding import Window, per_axis
from archlang.sizes import Size


def need_apart(op: Primitive, found: Iterable[Window]) -> None:
    """Refuse to slide over the channels, all of which a kernel sees."""
    if any(window.name == "c" for window in found):
        raise OpError("A206", f"`{op.name}` slides over other axes than `c`", "on")


def need_groups(op: Primitive, facts: Facts, groups: Size, units: Size, c: Size) -> None:
    """Refuse groups that do not divide the channels going in and coming out."""
    per_axis(groups, ("c",), "groups", 1)
    for what, size in (("c", c), ("units", units)):
        if not facts.divides(groups, size):
            raise OpError(
                "A204", f"`{op.name}` in {groups} groups, and {what} = {size} is not a multiple of that", "groups"
            )


def contract(x: Named, weight: Named, groups: int) -> Named:
    """Per group of channels, the sum over c of x[c] weight[units, c]; the units are the new c."""
    rest = [name for name in x.names if name != "c"]
    shared = [name for name in weight.names if name not in ("units", "c")]
    x = Named(x.to((*rest, "c")).unflatten(-1, (groups, -1)), (*rest, "groups", "c"))
    weight = Named(weight.to((*shared, "units", "c")).unflatten(-2, (groups, -1)), (*shared, "groups", "units", "c"))
    y = (x * weight).sum(("c",))
    return Named(y.to((*rest, "groups", "units")).flatten(-2), (*rest, "c"))


def shifted(y: Term, offset: Term | None, slid: int) -> Term:
    """y + offset, a number for each channel before the axes slid over."""
    return y if offset is None else Term(f"{y.code} + {offset.safe}[:{', None' * slid}]", y.order, tight=False)
