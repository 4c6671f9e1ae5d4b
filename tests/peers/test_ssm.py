"""State space models with the weights of published implementations."""

import pytest
import torch

from tests.peers.parity import agree, load


def tokens(vocab: int, length: int = 23) -> torch.Tensor:
    return torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(2))


def test_mamba():
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=2, use_mambapy=False, use_cache=False
    )
    network = load("mamba.arch", variant="mamba_130m", vocab=64, dim=32, depth=2, state=8)
    agree(network, transformers.MambaForCausalLM(config), network.map("transformers"), tokens(64))
