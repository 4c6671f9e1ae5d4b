from torch import Tensor


def top_k_routing(
    logits: Tensor,
    k: int,
    score: str = "none",
    weights: str = "none",
    bias: Tensor | None = None,
    scored: bool = False,
) -> tuple[Tensor, ...]:
    """The k experts of logits [.., experts] with the largest score plus bias [experts], where a score is a softmax or
    sigmoid of the logits or these themselves; and their weights: their scores, the shares of these in their sum, or a
    softmax of these; where `scored` the scores of all.
    """
    scores = logits.softmax(-1) if score == "softmax" else logits.sigmoid() if score == "sigmoid" else logits
    index = (scores if bias is None else scores + bias).topk(k, -1).indices
    weight = scores.gather(-1, index)
    if weights == "share":
        weight = weight / weight.sum(-1, keepdim=True)
    elif weights == "softmax":
        weight = weight.softmax(-1)
    return (index, weight, scores) if scored else (index, weight)
