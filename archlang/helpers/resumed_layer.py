"""Recurrent layers that go on."""

from torch import Tensor, nn

from archlang.helpers.carried_state import CarriedState


def resumed_layer(layer: nn.Module, x: Tensor, h: CarriedState, cell: CarriedState | None = None) -> Tensor:
    """The outputs for x [b, t, c], from the output `h` of the position before, and the `cell` of an LSTM."""
    held = [h] if cell is None else [h, cell]
    before = [carried.held[None] for carried in held if carried.held is not None]
    state = (before[0] if cell is None else tuple(before)) if before else None
    y: Tensor
    y, after = layer(x, state)
    for carried, value in zip(held, [after] if cell is None else after, strict=True):
        carried.keep(value[0].clone())
    return y
