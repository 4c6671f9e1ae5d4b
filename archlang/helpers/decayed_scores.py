"""Products of queries and keys under a decay per channel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def decayed_scores(q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """[.., n, c] -> [.., n, n]: sum over c of q_i k_j exp(log_decay after j up to i) for j <= i, else 0. n is a power
    of 2.

    Blocks of 1, 2, 4 ... positions: the queries of every second block meet the keys of the block before it over the
    border between them, so that no exponent is positive, however strong the decay.
    """

    def pairs(x: Tensor, size: int) -> tuple[Tensor, ...]:
        return x.reshape(*x.shape[:-2], -1, 2, size, x.shape[-1]).unbind(-3)

    n, size = q.shape[-2], 1
    scores = (q * k).sum(-1)[..., None, None]
    while size < n:
        (_, q_next), (k_last, _), (before, after) = (pairs(x, size) for x in (q, k, log_decay))
        rest = F.pad(before[..., 1:, :].flip(-2).cumsum(-2).flip(-2), (0, 0, 0, 1))  # after j up to the border
        cross = (q_next * after.cumsum(-2).exp()) @ (k_last * rest.exp()).mT
        first, second = scores[..., 0::2, :, :], scores[..., 1::2, :, :]
        scores = torch.cat([F.pad(first, (0, size)), torch.cat([cross, second], -1)], -2)
        size *= 2
    return scores.squeeze(-3)
