"""Modules for inference: what their weights determine is worked out once, and stays right whatever is done to them."""

import copy
import pickle

import pytest
import torch
from torch import nn

import archlang

SOURCE = """
block layer(dim: int)(x: [b, h, w, c]) = x -> conv(dim, bias = false) as conv -> batch_norm as norm -> relu
block window_attention(heads: int)(x: [b, h, w, c]) -> [b, h, w, c] {
  qkv = x -> linear([part = 3, heads, c = c / heads]) as qkv
  o = attend(qkv[part = 0], qkv[part = 1], qkv[part = 2], over = windows(4), position = log_cpb(hidden = 8) as bias)
  return o -> linear([c], on = [heads, c]) as proj
}
model net {
  input x: [b, c = 3, h = 8, w = 8]
  y = x -> layer(8) as first -> window_attention(2) as attn
  repeat 2 as layers[i] { y = y -> layer(8) }
  output z: [b, c = 4] = y -> mean(on = space) -> linear(4) as head
}
"""
NETWORK = archlang.loads(SOURCE).net()


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    """One network for training, in evaluation, and for inference, with equal weights that are like trained ones."""
    plain, folded = NETWORK.module(seed=0).eval(), NETWORK.module(seed=1, purpose="inference")
    random = torch.Generator().manual_seed(2)
    for name, x in plain.state_dict().items():
        if x.is_floating_point():
            x.copy_(
                torch.rand(x.shape, generator=random) + 0.5
                if "var" in name
                else torch.randn(x.shape, generator=random) / 3
            )
    folded.load_state_dict(plain.state_dict())
    return plain, folded


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).to(dtype)


def same(plain: nn.Module, folded: nn.Module, precision: float = 1e-5) -> None:
    x = images(next(plain.parameters()).dtype)
    with torch.no_grad():
        meant = plain(x)
    torch.testing.assert_close(folded(x), meant, rtol=precision, atol=precision * float(meant.abs().max()))


def test_it_has_the_weights_of_the_source(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in folded.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_nothing_is_computed_twice(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    called: list[str] = []
    for module in folded.modules():
        module.register_forward_hook(lambda module, *_: called.append(type(module).__name__))
    same(plain, folded)
    assert {"BatchNorm2d", "Conv2d", "LogCpb"}.isdisjoint(called)


def test_weights_do_not_train(pair: tuple[nn.Module, nn.Module]):
    _, folded = pair
    assert not any(p.requires_grad for p in folded.parameters())
    assert not any(module.training for module in folded.train().modules())
    assert not any(module.training for module in nn.ModuleList([folded]).train()[0].modules())


def test_weights_are_loaded(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    same(plain, folded)
    other = NETWORK.module(seed=5).eval()
    folded.load_state_dict(other.state_dict(), assign=True)
    same(other, folded)
    folded.first.load_state_dict(plain.first.state_dict())  # a part alone
    other.first.load_state_dict(plain.first.state_dict())
    same(other, folded)
    for module in (folded, other):  # and a layer of a part
        module.layers[0].layer.norm.load_state_dict(plain.first.norm.state_dict())
    same(other, folded)


def test_weights_are_loaded_from_files(pair: tuple[nn.Module, nn.Module], tmp_path):
    plain, folded = pair
    archlang.save_weights(plain, tmp_path / "w.safetensors")
    made = NETWORK.module(seed=7, purpose="inference")
    archlang.load_weights(made, tmp_path / "w.safetensors")
    same(plain, made)
    archlang.save_weights(folded, tmp_path / "again.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_weights_are_changed_by_hand(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    with torch.no_grad():
        for module in pair:
            module.layers[1].layer.norm.weight.mul_(2)
            module.attn.bias.fc2.weight.add_(1)
    folded.fold()
    same(plain, folded)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_it_is_cast(pair: tuple[nn.Module, nn.Module], dtype: torch.dtype):
    plain, folded = (module.to(dtype) for module in pair)
    same(plain, folded, {torch.float64: 1e-12, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype])
    kept = {name: x for name, x in folded.named_buffers() if x.is_floating_point()}
    assert {x.dtype for x in kept.values()} == {dtype}
    if dtype != torch.float64:  # folded in float32, and rounded once
        exact = NETWORK.module(purpose="inference")
        exact.load_state_dict(plain.state_dict())
        for name, x in exact.named_buffers():
            torch.testing.assert_close(kept.get(name, x), x.to(kept.get(name, x).dtype), rtol=0, atol=0)


def test_it_is_copied_and_pickled(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    for twin in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        same(plain, twin)
        other = NETWORK.module(seed=5).eval()
        twin.load_state_dict(other.state_dict())
        same(other, twin)
    same(plain, folded)


def test_it_is_made_without_memory():
    text = "model net {\n  input x: [b, h = 6, c = 4]\n  output z = x -> conv(4) as conv -> batch_norm as norm\n}"
    network = archlang.loads(text).net()
    plain = network.module(seed=0).eval()
    with torch.device("meta"):
        folded = network.module(purpose="inference")
        again = network.module(purpose="inference")
    folded.to_empty(device="cpu").load_state_dict(plain.state_dict())
    again.load_state_dict(plain.state_dict(), assign=True)
    x = torch.randn(2, 6, 4)
    for made in (folded, again):
        torch.testing.assert_close(made(x), plain(x).detach())


def test_it_is_exported(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    exported = torch.export.export(folded, (images(),)).module()
    same(plain, exported)


@pytest.mark.slow
def test_it_is_compiled(pair: tuple[nn.Module, nn.Module]):
    plain, folded = pair
    same(plain, torch.compile(folded, fullgraph=True))
