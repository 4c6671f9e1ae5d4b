import torch
from torch import Tensor


def top_k_routing(
    logits: Tensor,
    k: int,
    score: str = "none",
    weights: str = "none",
    bias: Tensor | None = None,
    scored: bool = False,
    groups: tuple[int, int, int] | None = None,
) -> tuple[Tensor, ...]:
    """The k experts of logits [.., experts] with the largest score plus bias [experts], where a score is a softmax or
    sigmoid of the logits or these themselves; and their weights: their scores, the shares of these in their sum, or a
    softmax of these; where `scored` the scores of all. With `groups` = (count, kept, best) the experts are those of the
    `kept` groups, of `count` of equal size, whose `best` largest scores plus bias sum to most.
    """
    scores = logits.softmax(-1) if score == "softmax" else logits.sigmoid() if score == "sigmoid" else logits
    keys = scores if bias is None else scores + bias
    if groups is not None:
        count, kept, best = groups
        apart = keys.unflatten(-1, (count, -1))
        worth = apart.topk(best, -1).values.sum(-1)
        closed = torch.ones_like(worth).scatter(-1, worth.topk(kept, -1).indices, 0.0) > 0
        keys = apart.masked_fill(closed[..., None], float("-inf")).flatten(-2)
    index = keys.topk(k, -1).indices
    weight = scores.gather(-1, index)
    if weights == "share":
        weight = weight / weight.sum(-1, keepdim=True)
    elif weights == "softmax":
        weight = weight.softmax(-1)
    return (index, weight, scores) if scored else (index, weight)
