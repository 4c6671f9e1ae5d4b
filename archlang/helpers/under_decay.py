"""Products of queries and keys under a decay."""

import torch
import torch.nn.functional as F
from torch import Tensor


def under_decay(
    q: Tensor, k: Tensor, log_decay: Tensor, bounded: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of chunks [.., n, c], n a power of 2, with the logarithm of the decay of every position, [.., n, c] or
    [.., n, 1]:

    - the sums over c of q_i k_j times the decays after j up to i, 0 where j > i: [.., n, n];
    - q_i times the decays up to i, k_j times the decays after j, and the product of all decays.

    No difference of sums is taken, so that nothing overflows or cancels, however strong the decays are: one number a
    position is summed from every j to every i, and for a number a channel blocks of 1, 2, 4 ... positions meet the
    block before them over the border between the two. Where the decays of a chunk are `bounded` from below together,
    keys are divided by what queries are multiplied with, half of it on either side.
    """
    n = q.shape[-2]
    if log_decay.shape[-1] == 1:
        decays = log_decay.expand(*log_decay.shape[:-1], n).tril(-1).cumsum(-2).exp().tril()
        read = log_decay.cumsum(-2).exp()
        return (q @ k.mT) * decays, q * read, k * decays[..., -1:, :].mT, read[..., -1:, :]
    if bounded:
        total = log_decay.cumsum(-2)
        half = (total - total[..., -1:, :] / 2).exp()
        read, left = total.exp(), (total[..., -1:, :] - total).exp()
        return ((q * half) @ (k / half).mT).tril(), q * read, k * left, read[..., -1:, :]
    size, decay, k = 1, log_decay.exp(), k.expand(torch.broadcast_shapes(k.shape, log_decay.shape))
    scores = (q * k).sum(-1)[..., None, None]
    read, left, kept = q * decay, k, decay[..., None, :]
    while size < n:
        (read_0, read_1), (left_0, left_1) = (x.unflatten(-2, (-1, 2, size)).unbind(-3) for x in (read, left))
        (kept_0, kept_1), (scores_0, scores_1) = (x.unflatten(-3, (-1, 2)).unbind(-3) for x in (kept, scores))
        lower = torch.cat([read_1 @ left_0.mT, scores_1], -1)
        scores = torch.cat([F.pad(scores_0, (0, size)), lower], -2)
        read = torch.cat([read_0, read_1 * kept_0], -2).flatten(-3, -2)
        left = torch.cat([left_0 * kept_1, left_1], -2).flatten(-3, -2)
        kept, size = kept_0 * kept_1, 2 * size
    return scores.squeeze(-3), read, left, kept.squeeze(-3)
