"""Products of queries and keys under a decay."""

import torch
import torch.nn.functional as F
from torch import Tensor


def under_decay(q: Tensor, k: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of chunks [.., n, c], n a power of 2, with the decay of every position, [.., n, c] or [.., n, 1]:

    - the sums over c of q_i k_j times the decays after j up to i, 0 where j > i: [.., n, n];
    - q_i times the decays up to i, k_j times the decays after j, and the product of all decays.

    Blocks of 1, 2, 4 ... positions meet the block before them over the border between the two: all is made of products
    of decays, so that nothing overflows or cancels, however strong they are.
    """
    size, n, one = 1, q.shape[-2], torch.ones_like(decay[..., :1])
    plain = decay.shape[-1] == 1  # one number a position: the sums over c first
    queries, keys = (one, one) if plain else (q, k)
    scores = (queries * keys).sum(-1)[..., None, None]
    read, left, kept = ((x * y)[..., None, :] for x, y in ((queries, decay), (keys, one), (one, decay)))
    while size < n:
        read_0, left_0, kept_0, scores_0 = (x[..., 0::2, :, :] for x in (read, left, kept, scores))
        read_1, left_1, kept_1, scores_1 = (x[..., 1::2, :, :] for x in (read, left, kept, scores))
        cross = read_1 * left_0.mT if plain else read_1 @ left_0.mT
        scores = torch.cat([F.pad(scores_0, (0, size)), torch.cat([cross, scores_1], -1)], -2)
        read, left = torch.cat([read_0, read_1 * kept_0], -2), torch.cat([left_0 * kept_1, left_1], -2)
        kept, size = kept_0 * kept_1, 2 * size
    scores, read, left, kept = (x.squeeze(-3) for x in (scores, read, left, kept))
    return (scores * (q @ k.mT), q * read, k * left, kept) if plain else (scores, read, left, kept)
