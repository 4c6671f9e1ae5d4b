"""Greedy generation with the weights of published implementations, and with their caches, gives equal tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.peers.parity import TOLERANCE, difference, load, published

PROMPT, TOKENS = 11, 20


def generated(network: Any, peer: nn.Module) -> tuple[Tensor, Tensor]:
    """The tokens that follow, and the logits that they were chosen by."""
    module = network.module(purpose="decoding").double()
    weights = network.map("transformers").load(published(peer), module.state_dict())
    module.load_state_dict({**module.state_dict(), **weights})
    tokens, found = prompt(), []
    for _ in range(TOKENS):
        found.append(module(tokens)[:, -1])
        tokens = found[-1].argmax(-1, keepdim=True)
    assert module.past == PROMPT + TOKENS - 1
    logits = torch.stack(found, 1)
    return logits.argmax(-1), logits


def prompt() -> Tensor:
    return torch.randint(0, 64, (3, PROMPT), generator=torch.Generator().manual_seed(2))


def agree(network: Any, peer: Any) -> None:
    peer = peer.double().eval()
    theirs = peer.generate(
        prompt(), attention_mask=torch.ones(3, PROMPT, dtype=torch.int64), max_new_tokens=TOKENS, do_sample=False,
        use_cache=True, eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    tokens, logits = generated(network, peer)
    assert torch.equal(tokens, theirs.sequences[:, PROMPT:])
    assert difference(logits, torch.stack(theirs.logits, 1).double()) < TOLERANCE  # parts of theirs are in float32
    assert len(set(tokens.flatten().tolist())) > 5


def test_llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, initializer_range=0.3,
    )  # fmt: skip
    agree(load("llama.arch", variant="toy", vocab=64), transformers.LlamaForCausalLM(config))


def test_mamba():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=2, use_mambapy=False, initializer_range=0.5
    )
    network = load("mamba.arch", variant="mamba_130m", vocab=64, dim=32, depth=2, state=8)
    agree(network, transformers.MambaForCausalLM(config))
