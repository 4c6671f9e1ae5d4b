"""Recurrent layers between states."""

from torch import Tensor, nn


def layer_from(layer: nn.RNNBase, x: Tensor, *starts: Tensor) -> tuple[Tensor, ...]:
    """The outputs for x [b, t, c] of a recurrent layer that starts from states [b, units], or from 0, and its last
    states; those of both directions stand side by side.
    """
    directions = 2 if layer.bidirectional else 1
    given = tuple(start.unflatten(-1, (directions, -1)).movedim(-2, 0).contiguous() for start in starts)
    y, last = layer(x, given if len(given) > 1 else given[0] if given else None)
    return y, *(state.movedim(0, -2).flatten(-2) for state in (last if isinstance(last, tuple) else [last]))
