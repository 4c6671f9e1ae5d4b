"""The delta rule, a chunk at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.decayed_scores import decayed_scores
from archlang.helpers.segment_sums import segment_sums


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 64,
) -> Tensor:
    """S_t = (I - beta_t k_t k_t^T) exp(log_decay_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c] or [.., t, 1].

    Inside a chunk a triangular system gives what every position writes (the UT transform of Yang et al., NeurIPS 2024);
    the state passes from one chunk to the next.
    """
    length, dtype, out = q.shape[-2], torch.promote_types(q.dtype, torch.float32), v.dtype

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        return F.pad(x, (0, 0, 0, -length % chunk)).reshape(*x.shape[:-2], -1, chunk, x.shape[-1])

    q, k, v, beta = chunks(q) * scale, chunks(k), chunks(v), chunks(beta)
    read, last, decay = k, k, k.new_ones(1, 1, 1)
    if log_decay is None:
        scores, overlap = (q @ k.mT).tril(), k @ k.mT
    else:
        steps = chunks(log_decay)
        if steps.shape[-1] == 1:
            weights = segment_sums(steps[..., 0]).exp()
            scores, overlap = (q @ k.mT) * weights, (k @ k.mT) * weights
        else:
            scores, overlap = decayed_scores(q, k, steps), decayed_scores(k, k, steps)
        since = steps.cumsum(-2)
        q, read = q * since.exp(), k * since.exp()
        last, decay = k * (since[..., -1:, :] - since).exp(), since[..., -1:, :].mT.exp()
    system = (overlap * beta).tril(-1)
    new, taken = (torch.linalg.solve_triangular(system, x * beta, upper=False, unitriangular=True) for x in (v, read))
    decay = decay.expand(*last.shape[:-2], *decay.shape[-2:])
    state, outputs = new.new_zeros(*new.shape[:-3], k.shape[-1], v.shape[-1]), []
    rows = zip(*(x.unbind(-3) for x in (q, scores, last, new, taken, decay)), strict=True)
    for q_, scores_, last_, new_, taken_, kept in rows:
        write = new_ - taken_ @ state
        outputs.append(scores_ @ write + q_ @ state)
        state = state * kept + last_.mT @ write
    return torch.cat(outputs, -2)[..., :length, :].to(out)
