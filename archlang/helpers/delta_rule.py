"""The delta rule, a chunk at a time."""

import torch
from torch import Tensor

from archlang.helpers.in_chunks import in_chunks
from archlang.helpers.under_decay import under_decay


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = (I - beta_t k_t k_t^T) exp(log_decay_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c] or [.., t, 1]; from S_0 =
    `start` [.., c, d], or from 0; with `final` also the last S, in the dtype of `start`.

    Inside a chunk a triangular system gives what every position writes (the UT transform of Yang et al., NeurIPS 2024);
    the state passes from one chunk to the next. `bounded`: the decays of a chunk together are not below exp(-120).
    """

    def inside(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None) -> tuple[Tensor, ...]:
        """The weights of what is written and what the queries read the state with; what is kept of it; the keys to
        write with; what takes back of a state, and what is written besides.
        """
        if log_decay is None:
            scores, overlap, read, left, kept = (q @ k.mT).tril(), k @ k.mT, k, k, k.new_ones(1, 1, 1)
        else:
            scores, q, left, kept = under_decay(q, k, log_decay, bounded)
            overlap, read, *_ = under_decay(k, k, log_decay, bounded)
        system, one = (overlap * beta).tril(-1), torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
        inverse = torch.linalg.solve_triangular(system, one.expand_as(system), upper=False, unitriangular=True)
        inverse = inverse * beta.mT
        return scores, q, kept.mT, left.mT, inverse @ read, inverse @ v

    def step(
        state: Tensor, scores: Tensor, q: Tensor, kept: Tensor, k: Tensor, taken: Tensor, new: Tensor
    ) -> tuple[Tensor, Tensor]:
        new = torch.baddbmm(new, taken, state, alpha=-1)
        return torch.baddbmm(state * kept, k, new), torch.baddbmm(scores @ new, q, state)

    return in_chunks(inside, step, (q * scale, k, v, beta, log_decay), start, chunk, final)
