"""Networks with experts against their published implementations: equal weights, equal results, gradients and losses."""

import pytest
import torch

from tests.peers.parity import agree, copied, load


def tokens(vocab: int = 128) -> torch.Tensor:
    return torch.randint(0, vocab, (2, 23), generator=torch.Generator().manual_seed(2))


def mixtral(depth: int = 2) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=depth, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=10000.0,
        output_router_logits=True, sliding_window=None,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


def test_mixtral():
    network = load("mixtral.arch", variant="toy")
    agree(network, mixtral(), network.map("transformers"), tokens())


def test_balance_loss_of_mixtral():
    """Of one layer: theirs means over all layers before it multiplies, ours is one for each."""
    network, peer = load("mixtral.arch", variant="toy", depth=1), mixtral(depth=1)
    module = copied(network, peer, network.map("transformers")).train()
    module(tokens())
    torch.testing.assert_close(module.losses["balance"].sum(), peer(tokens()).aux_loss)
