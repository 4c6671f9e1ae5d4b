"""What emitted networks copy: bytes that operations move and do not compute with, counted as PyTorch runs."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import archlang
from archlang.passes.options import Purpose

MOVES = {"clone", "copy_", "_to_copy", "constant_pad_nd", "roll", "cat", "stack", "index_select"}


class Copies(TorchDispatchMode):
    """Counts the bytes that are copied, among them those of norms that want another order in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        made, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        copies = name in MOVES or (name == "native_layer_norm" and not args[0].is_contiguous())
        if copies:
            self.bytes[name] = self.bytes.get(name, 0) + (made if name in MOVES else args[0]).nbytes
        return made


def copied(
    name: str, variant: str | None, disable: tuple[str, ...] = (), purpose: Purpose = "training"
) -> dict[str, int]:
    """Bytes by operation, of one image."""
    network = archlang.load(f"examples/{name}.arch").architecture(variant=variant)
    module = network.module(seed=0, disable=disable, purpose=purpose).eval()
    with torch.no_grad(), Copies() as copies:
        module(torch.randn(1, 3, 224, 224))
    return copies.bytes


@pytest.mark.parametrize(
    ("name", "variant", "before", "after"),
    [
        ("maxvit", "tiny", 67_772_684, 53_924_108),
        ("swin", None, 36_126_720, 35_524_608),
        ("convnext", None, 1_204_224, 602_112),
    ],
)
def test_what_is_copied(name: str, variant: str | None, before: int, after: int):
    plain, laid = copied(name, variant, ("channels_last", "windows")), copied(name, variant, ("windows",))
    assert "native_layer_norm" in plain
    assert "native_layer_norm" not in laid, "norms read maps as they lie"
    assert (sum(plain.values()), sum(laid.values())) == (before, after)


@pytest.mark.parametrize(("name", "variant", "share"), [("maxvit", "tiny", 0.85), ("swin", None, 0.4)])
def test_what_the_order_of_windows_spares(name: str, variant: str | None, share: float):
    """For inference, where the fused kernel reads q, k and v where they lie."""
    cut, ordered = (copied(name, variant, disable, "inference") for disable in (("windows",), ()))
    assert sum(ordered.values()) < share * sum(cut.values())
    assert "roll" not in ordered
