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


def test_t5():
    """A source that is longer than the distance from which buckets are wider than one offset."""
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=3, dropout_rate=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    network = load("t5.arch", vocab=60, dim=16, depth=2, heads=3, key=8, hidden=24)
    peer = transformers.T5ForConditionalGeneration(config)
    asked = peer.forward
    peer.forward = lambda source, target: asked(input_ids=source, decoder_input_ids=target, use_cache=False)
    agree(network, peer, network.map("transformers"), tokens(60, 40), tokens(60, 21))


def test_deepseek_v3():
    """One dense layer, then experts of which each token meets three within two of four groups."""
    transformers = pytest.importorskip("transformers")
    config = transformers.DeepseekV3Config(
        vocab_size=60, hidden_size=32, num_hidden_layers=3, intermediate_size=48, moe_intermediate_size=12,
        num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8, kv_lora_rank=16,
        q_lora_rank=12, qk_rope_head_dim=4, v_head_dim=6, qk_nope_head_dim=8, n_group=4, topk_group=2,
        num_experts_per_tok=3, first_k_dense_replace=1, experts_implementation="eager", attn_implementation="eager",
    )  # fmt: skip
    network = load("deepseek_v3.arch", vocab=60, dim=32, depth=3, dense=1, heads=4, q_rank=12, kv_rank=16, plain=8,
                   turned=4, value=6, hidden=48, expert=12, experts=8, top=3, groups=4, kept=2)  # fmt: skip
    agree(network, transformers.DeepseekV3ForCausalLM(config), network.map("transformers"), tokens(60))
