"""Networks that decode, with kernels: a sequence in pieces is the sequence whole."""

import sys
from typing import Any

import pytest
import torch

from archlang.testing.decoding import check_pieces, in_pieces
from archlang.testing.networks import random_inputs
from tests.test_decoding import LENGTH, small
from tests.test_examples import TOYS, network

SIZES = {toy.name: toy.sizes[0] for toy in TOYS}
STATES = "by_head by_key by_pair gated_delta selective depthwise gated_sum loop rope_sliding sigmoid lstm".split()
SPLIT = [5, 1, 1, LENGTH - 7]


def check_kernels(made: Any, sizes: dict[str, int], split: list[int]) -> None:
    """In float32, where kernels run, against the network for inference that runs on torch alone."""
    inputs = random_inputs(made, sizes)
    inputs = {port: x.float() if x.is_floating_point() else x for port, x in inputs.items()}
    plain = made.module(seed=0, purpose="inference").eval()
    ours = made.module(seed=0, purpose="decoding", target="triton").eval()
    ours.load_state_dict(plain.state_dict())
    with torch.no_grad():
        (found,), meant = in_pieces(made, ours, inputs, split), plain(*inputs.values())
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STATES)
def test_every_state_goes_on(name: str) -> None:
    """In float64, where the PyTorch forms run, and in float32."""
    check_pieces(small(name), {"b": 2, "t": LENGTH}, SPLIT, target="triton")
    check_kernels(small(name), {"b": 2, "t": LENGTH}, SPLIT)


@pytest.mark.parametrize("name", ["gated_delta_net", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mamba", "gla", "delta_product", "retnet", "mixtral", "llama"))])  # fmt: skip
def test_networks_go_on(name: str) -> None:
    length = SIZES[name]["t"]
    check_kernels(network(name), SIZES[name], [length - 2, 1, 1])


def test_one_position_is_a_step() -> None:
    """A kernel for many positions and one for few; the scan of Mamba has one for both."""
    text = small("gated_delta").source("triton", purpose="decoding")
    assert "core=triton_delta_rule" in text and "steps=triton_recurrence_steps" in text
    assert "steps=triton_recurrence_steps" in small("by_pair").source("triton", purpose="decoding")
    assert "core=triton_selective_scan" in small("selective").source("triton", purpose="decoding")
    assert "triton_" not in small("gated_delta").source(purpose="decoding")


def test_no_graph_of_a_call_is_captured() -> None:
    """It would begin at the same state each time."""
    assert "def graph(" in small("by_head").source("triton", purpose="inference")
    assert "def graph(" not in small("by_head").source("triton", purpose="decoding")


@pytest.mark.parametrize("fault", ["steps=triton_recurrence_steps", "core=triton_linear_recurrence"])
def test_kernels_are_called(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one wrong, it would be seen."""
    called = []
    module = small("by_head").module(seed=0, purpose="decoding", target="triton").eval()
    names = sys.modules[type(module).__module__]
    rule = fault.partition("=")[2]
    right = getattr(names, rule)
    monkeypatch.setattr(names, rule, lambda *given, **named: called.append(rule) or right(*given, **named))
    with torch.no_grad():
        module(torch.randn(2, 5, 8)), module(torch.randn(2, 1, 8))
    assert called == [rule]
