"""Activations that matrix products and convolutions can end with."""

import torch
import torch.nn.functional as F
from torch import Tensor

# by name: oneDNN's name, its numbers, its algorithm
EPILOGUES: dict[str, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "silu": ("swish", [], ""),
    "sigmoid": ("sigmoid", [], ""),
    "tanh": ("tanh", [], ""),
    "hard_swish": ("hardswish", [], ""),
    "hard_sigmoid": ("hardsigmoid", [], ""),
}


def epilogue(x: Tensor, activation: str) -> Tensor:
    """activation(x), by name."""
    match activation:
        case "none":
            return x
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "sigmoid" | "tanh":
            return torch.sigmoid(x) if activation == "sigmoid" else torch.tanh(x)
        case _:
            made: Tensor = getattr(F, activation.replace("hard_", "hard"))(x)
            return made
