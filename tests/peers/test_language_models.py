"""Language models with attention of several kinds against their published implementations."""

from typing import Any

import pytest
import torch

from tests.peers.parity import agree, load


def tokens(vocab: int, length: int = 11) -> torch.Tensor:
    return torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(2))


def test_gpt_oss():
    """A window that is shorter than the text, and experts that theirs stacks in one tensor."""
    transformers = pytest.importorskip("transformers")
    rope: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "truncate": False}
    config = transformers.GptOssConfig(
        vocab_size=60, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=5, num_local_experts=4, num_experts_per_tok=2,
        rope_parameters={**rope, "original_max_position_embeddings": 4096}, experts_implementation="eager",
        attn_implementation="eager",
    )  # fmt: skip
    network = load("gpt_oss.arch", vocab=60, dim=32, depth=2, heads=4, kv_heads=2, head_dim=8, hidden=24, experts=4,
                   top=2, window=5)  # fmt: skip
    agree(network, transformers.GptOssForCausalLM(config), network.map("transformers"), tokens(60))
