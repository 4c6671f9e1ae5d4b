"""How attention turns logits into weights. A score is a value of its own kind: `score = sigmoid(bias = -3)`."""

import math
from typing import Any, ClassVar

from archlang.primitive import Construct, Emission, Number, Whole
from archlang.sizes import Poly, Size


class Score(Construct):
    """From logits to weights; `most` is the number of keys that a query sees at most."""

    kind: ClassVar[str] = "score"

    def weights(self, logits: Any, most: int) -> Any:
        """The meaning, for scores of each key alone: a torch tensor for a torch tensor that is -inf where a key is not
        seen.
        """
        raise NotImplementedError

    @property
    def counts(self) -> bool:
        """Whether the number of keys that a query sees at most is a part of it."""
        return False

    def emit(self, code: Emission, most: Size) -> str:
        """A function of logits; empty for softmax."""
        return ""


class Softmax(Score):
    """exp(s_j) / sum over k of exp(s_k)."""

    name: ClassVar[str] = "softmax"


class Sigmoid(Score):
    """sigmoid(s + bias), each key on its own; `bias` is -log of the number of keys that a query sees at most unless it
    is given (Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, ICLR 2025).
    """

    name: ClassVar[str] = "sigmoid"

    bias: Number | None = None

    def weights(self, logits: Any, most: int) -> Any:
        bias = -math.log(most) if self.bias is None else self.bias
        return 1 / (1 + (-logits - bias).exp())

    @property
    def counts(self) -> bool:
        return self.bias is None

    def emit(self, code: Emission, most: Size) -> str:
        if self.bias is not None:
            bias = code.const(float(self.bias))
        else:
            bias = f"-math.log({code.size(most)})" if isinstance(most, Poly) else code.const(-math.log(most))
        return f"partial({code.helper('sigmoid_score')}, bias={bias})"


class Relu(Score):
    """relu(s)^power / n, n the number of keys that a query sees at most (Wortsman et al., Replacing softmax with ReLU
    in Vision Transformers, 2023); without `mean`, as in a gated attention unit (power 2; Hua et al., ICML 2022), no n.
    """

    name: ClassVar[str] = "relu"

    power: Whole = 1
    mean: bool = True

    def weights(self, logits: Any, most: int) -> Any:
        return logits.clamp(min=0) ** self.power / (most if self.mean else 1)

    @property
    def counts(self) -> bool:
        return self.mean

    def emit(self, code: Emission, most: Size) -> str:
        power = f", power={code.const(self.power)}" if self.power != 1 else ""
        count = f", count={code.size(most)}" if self.mean else ""
        helper = code.helper("relu_score")
        return f"partial({helper}{power}{count})" if power or count else helper


SCORES: dict[str, type[Score]] = {score.name: score for score in (Softmax, Sigmoid, Relu)}
