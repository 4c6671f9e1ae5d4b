"""The first lines of `forward`: what is checked of the inputs, and the sizes and dtypes that are read from them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archlang.emit import checks, decoding
from archlang.primitive import Term

if TYPE_CHECKING:
    from archlang.emit.forward import Forward


def lines(body: "Forward") -> list[str]:
    """They stand before all others, and are written last."""
    before, after = _checks(body) if body.root else ([], [])
    began = [decoding.begin(body)] if body.root and body.clock else []
    return [*before, *_reads(body), *began, *after]


def _checks(body: "Forward") -> tuple[list[str], list[str]]:
    """What a model checks of its inputs, before and after their sizes are read."""
    types = {port: value.type for port, value in body.graph.inputs.items()}
    variables = dict(zip(types, (text.split(":")[0] for text in body.draft.signature), strict=False))
    agree = checks.agreements(body.sizes, body.places, types, variables)
    return checks.shapes(types, variables), [*agree, *checks.conditions(body.sizes, decoding.conditions(body))]


def _reads(body: "Forward") -> Iterator[str]:
    """The lines that read the sizes used, one an input."""
    yield from (line for _, line in body.witnesses.values())
    for port, variable in zip(body.graph.inputs, body.draft.signature, strict=False):
        names = {p.axis.name: p.name for p in body.places if p.port == port and p.name in body.sizes.used}
        targets = [names.get(axis, "_") for axis in body.orders[port]]
        variable = variable.split(":")[0]
        if len(names) == 1:
            (axis,) = names
            yield f"{names[axis]} = {variable}.shape[{Term('', body.orders[port]).at(axis)}]"
        elif names:
            yield f"{', '.join(targets)} = {variable}.shape"
