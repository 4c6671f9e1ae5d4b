"""Sound in codes, residues and their pairs, and a language model of recurrences, beside transformers."""

import pytest
import torch
from torch import Tensor, nn

from tests.peers.parity import agree, copied, load, noise


def test_griffin():
    """Two recurrences and one attention, whose window is shorter than the text. Token 0 fills gaps, and learns nothing."""
    transformers = pytest.importorskip("transformers")
    config = transformers.RecurrentGemmaConfig(
        vocab_size=60, hidden_size=16, lru_width=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=48, attention_window_size=5, partial_rotary_factor=0.5,
    )  # fmt: skip
    network = load("griffin.arch", vocab=60, dim=16, width=24, depth=3, heads=2, hidden=24, window=5)
    peer = transformers.RecurrentGemmaForCausalLM(config)
    asked = peer.forward
    peer.forward = lambda tokens: asked(input_ids=tokens, use_cache=False)
    tokens = torch.randint(1, 60, (2, 17), generator=torch.Generator().manual_seed(2))
    agree(network, peer, network.map("transformers"), tokens)


def test_dac():
    """The same sound, and the same codes on the way to it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=16, hidden_size=12, downsampling_ratios=[2, 4],
        upsampling_ratios=[4, 2], n_codebooks=3, codebook_size=16, codebook_dim=4, quantizer_dropout=0.0,
    )  # fmt: skip
    network = load("dac.arch", dim=4, wide=16, latent=12, strides=[2, 4], codebooks=3, size=16, code_dim=4)
    peer, sound = transformers.DacModel(config).double(), noise(2, 1, 64)
    asked = peer.forward
    peer.forward = lambda audio: (asked(audio).audio_values[:, None],)
    agree(network, peer, network.map("transformers"), sound)
    module = copied(network, peer, network.map("transformers")).eval()
    assert torch.equal(module(sound)[1], asked(sound).audio_codes)


class Trunk(nn.Module):
    """Blocks of ESMFold's trunk without the language model and the structure around them."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.trunk = nn.ModuleDict({"blocks": blocks})

    def forward(self, residues: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.trunk["blocks"]:
            residues, pairs = block(residues, pairs)
        return residues, pairs


def test_esmfold():
    model = pytest.importorskip("transformers.models.esm.modeling_esmfold")
    config = pytest.importorskip("transformers.models.esm.configuration_esm").TrunkConfig(
        sequence_state_dim=16, pairwise_state_dim=8, sequence_head_width=8, pairwise_head_width=4, position_bins=4,
        dropout=0.0,
    )  # fmt: skip
    network = load("esmfold.arch", dim=16, pair=8, heads=2, pair_heads=2, depth=2, length=7)
    peer = Trunk(nn.ModuleList(model.EsmFoldTriangularSelfAttentionBlock(config) for _ in range(2))).double()
    agree(network, peer, network.map("transformers"), noise(2, 7, 16), noise(2, 7, 7, 8, seed=6))
