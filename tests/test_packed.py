"""Packed weights: the plain formula, whatever happens to the module that the weights belong to."""

import copy
import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from archlang.helpers import packed as store
from archlang.helpers.epilogue import EPILOGUES, epilogue
from archlang.helpers.packed_conv import packed_conv
from archlang.helpers.packed_linear import packed_linear
from archlang.testing.laws import TOLERANCE

ACTIVATIONS = sorted(EPILOGUES)


class Net(nn.Module):
    """Both kinds of layers, with an activation and with a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = packed_conv(x, self.conv.weight, self.conv.bias, padding=1, activation="relu6").permute(0, 2, 3, 1)
        y = packed_linear(x, self.fc.weight, self.fc.bias, "gelu")
        return packed_linear(y, self.out.weight, self.out.bias, other=x)

    def plain(self, x: Tensor) -> Tensor:
        x = F.relu6(F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)).permute(0, 2, 3, 1)
        y: Tensor = self.out(F.gelu(self.fc(x))) + x
        return y


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().requires_grad_(False).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 6, 6)


def close(made: Tensor, expected: Tensor) -> None:
    """Equal within the tolerance of the dtype, relative to the largest number."""
    tolerance = TOLERANCE.get(expected.dtype, 1e-2)
    finite = expected[expected.isfinite()].abs()
    largest = finite.max().item() if finite.numel() else 0.0
    torch.testing.assert_close(made, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def same(net: Net, x: Tensor) -> None:
    close(net(x), net.plain(x))


def is_packed(weight: Tensor) -> bool:
    return id(weight) in store._PACKED


# ---- values
@given(st.sampled_from(ACTIVATIONS), st.sampled_from([(), (1,), (5,), (2, 7)]), st.booleans(), st.booleans())
def test_linear(activation: str, rows: tuple[int, ...], bias: bool, other: bool) -> None:
    x, weight, b = torch.randn(*rows, 24) * 3, torch.randn(16, 24), torch.randn(16) if bias else None
    y = torch.randn(*rows, 16) if other else None
    activation = "none" if other else activation
    expected = epilogue(F.linear(x, weight, b), activation) + (0 if y is None else y)
    close(packed_linear(x, weight, b, activation, y), expected)


@given(
    st.sampled_from(ACTIVATIONS), st.sampled_from([1, 2, 8]), st.integers(1, 2), st.integers(0, 2), st.integers(2, 3),
    st.booleans(),
)  # fmt: skip
def test_conv(activation: str, groups: int, stride: int, padding: int, rank: int, other: bool) -> None:
    x, weight, bias = torch.randn(2, 8, *[7] * rank), torch.randn(16, 8 // groups, *[3] * rank), torch.randn(16)
    plain = F.conv2d if rank == 2 else F.conv3d
    expected = plain(x, weight, bias, stride, padding, 1, groups)
    y = torch.randn_like(expected) if other else None
    expected = expected + y if y is not None else epilogue(expected, activation)
    activation = "none" if other else activation
    made = packed_conv(x, weight, bias, stride, padding, 1, groups, activation, y)
    close(made, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_numbers_of_an_activation(activation: str) -> None:
    """Both forms of each activation, far out and about 0."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, float("inf"), -float("inf")])])[:, None]
    made = packed_linear(x, torch.ones(1, 1), None, activation)
    close(made, epilogue(x, activation))


@pytest.mark.parametrize("shape", [(0, 24), (3, 0, 24)])
def test_nothing(shape: tuple[int, ...]) -> None:
    assert packed_linear(torch.randn(shape), torch.randn(16, 24)).shape == (*shape[:-1], 16)


def test_strides(net: Net) -> None:
    """Inputs and weights in any order in memory."""
    x, weight = torch.randn(24, 5).T, torch.randn(24, 16).T
    close(packed_linear(x, weight), F.linear(x, weight))
    same(net, torch.randn(2, 6, 6, 3).permute(0, 3, 1, 2))


# ---- what a module goes through
CHANGES: list[Callable[[Net], Any]] = [
    lambda net: net.fc.weight.mul_(2),
    lambda net: net.conv.weight[0].zero_(),
    lambda net: net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()}),
    lambda net: setattr(net.fc, "weight", nn.Parameter(torch.randn(8, 8), requires_grad=False)),
    lambda net: setattr(net.fc.weight, "data", torch.randn(8, 8)),
    lambda net: nn.init.normal_(net.out.weight),
    lambda net: net.double().float(),
    lambda net: net.to(memory_format=torch.channels_last),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights(net: Net, image: Tensor, change: Callable[[Net], Any]) -> None:
    before = net(image)
    assert is_packed(net.fc.weight)
    assert is_packed(net.conv.weight)
    change(net)
    same(net, image)
    assert torch.equal(net(image), net(image))
    assert change in CHANGES[-2:] or not torch.allclose(net(image), before)


def test_an_optimizer_writes(net: Net, image: Tensor) -> None:
    net(image)
    net.requires_grad_()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(image).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        same(net, image)


def test_copies_are_their_own(net: Net, image: Tensor) -> None:
    net(image)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        copied.fc.weight.zero_()
        same(copied, image)
        same(net, image)


def test_no_trace_in_the_module(net: Net, image: Tensor) -> None:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(image)
    assert list(net.state_dict()) == list(before)
    assert all(type(value) is Tensor and value.layout == torch.strided for value in net.state_dict().values())
    assert not [name for name, _ in net.named_buffers()]


def test_dtypes(net: Net, image: Tensor) -> None:
    same(net.double(), image.double())
    same(net.bfloat16(), image.bfloat16())
    same(net.float(), image)


def test_freed(image: Tensor) -> None:
    net = Net().requires_grad_(False)
    net(image)
    held = len(store._PACKED)
    del net
    gc.collect()
    assert len(store._PACKED) <= held - 3


def test_free_sizes_keep_few_layouts(net: Net) -> None:
    for size in range(3, 40):
        same(net, torch.randn(1, 3, size, 3))
    assert len(store._PACKED[id(net.conv.weight)][3]) <= store._MOST + 1


def test_threads(net: Net) -> None:
    images = [torch.randn(1, 3, 5 + i % 3, 6) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(net, images))
    for x, y in zip(images, made, strict=True):
        close(y, net.plain(x))


# ---- who watches
def test_gradients(net: Net, image: Tensor) -> None:
    """Of weights and of inputs, where they are wanted."""
    x, y = image.clone().requires_grad_(), image.clone().requires_grad_()
    net(x).square().sum().backward()
    net.plain(y).square().sum().backward()
    close(x.grad, y.grad)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch.func.jvp itself
def test_functional_transforms(net: Net, image: Tensor) -> None:
    close(torch.vmap(net)(image[:, None]), net.plain(image)[:, None])
    many = torch.stack([net.fc.weight, net.fc.weight * 2])
    made = torch.vmap(lambda w: packed_linear(torch.ones(3, 8), w))(many)
    close(made, torch.ones(3, 8) @ many.mT)
    moved = torch.func.jvp(net, (image,), (torch.ones_like(image),))[1]
    close(moved, torch.func.jvp(net.plain, (image,), (torch.ones_like(image),))[1])


def test_inference_mode(image: Tensor) -> None:
    """Weights made there count no writes, and are never packed."""
    with torch.inference_mode():
        net = Net()
        same(net, image)
        net.fc.weight.mul_(3)
        same(net, image)
        assert not is_packed(net.fc.weight)


def test_autocast(net: Net, image: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image).dtype == net.plain(image).dtype


def test_export(net: Net, image: Tensor) -> None:
    """What is exported has torch's own operations alone."""
    exported = torch.export.export(net, (image,))
    assert "archlang" not in str(exported.graph) and "mkldnn" not in str(exported.graph)
    close(exported.module()(image), net.plain(image))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of Inductor itself
def test_compile(net: Net, image: Tensor) -> None:
    """In one graph, on the layouts, which follow the weights."""
    compiled = torch.compile(net, fullgraph=True)
    with torch.no_grad():
        close(compiled(image), net.plain(image))
        assert is_packed(net.fc.weight)
        net.fc.weight.mul_(2)
        close(compiled(image), net.plain(image))


def test_aot(net: Net, image: Tensor) -> None:
    """The operations say the shapes that they make."""
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for size in (4, 6):
            x = torch.randn(2, 3, size, size)
            close(compiled(x), net.plain(x))
    arguments = (image, net.conv.weight, net.conv.bias, [1, 1], [1, 1], [1, 1], 1, "relu", None)
    torch.library.opcheck(torch.ops.archlang.packed_conv, arguments)
    arguments = (torch.randn(2, 8), net.fc.weight, net.fc.bias, "gelu", torch.randn(2, 8))
    torch.library.opcheck(torch.ops.archlang.packed_linear, arguments)
