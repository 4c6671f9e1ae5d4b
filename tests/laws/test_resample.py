"""Laws of resizing, of space in channels, and of windows as an axis."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.interpolation import MODES
from archlang.primitives.resample import DepthToSpace, PixelShuffle, PixelUnshuffle, Resize, SpaceToDepth
from archlang.primitives.unfold import Fold, Unfold
from archlang.shapes import TensorType
from archlang.sizes import floor, symbol
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 5, "w": 4, "d": 3, "b": 2, "c": 3, "heads": 2}


def axis_map(**values: object) -> AxisMap:
    return AxisMap(tuple(values.items()))


@st.composite
def maps(draw: st.DrawFn, *axes: str) -> TensorType:
    axes = axes or draw(st.sampled_from([("h",), ("h", "w"), ("h", "w"), ("d", "h", "w")]))
    x = draw(tensor_types(must=axes, names=(*axes, "b", "c", "heads"), most=len(axes) + 3))
    return x.resized(**{name: FREE[name] for name in axes if isinstance(x.size(name), int)})


@settings(max_examples=60)
@given(maps(), st.sampled_from(sorted(MODES)), st.integers(1, 9), st.booleans())
def test_resize_to_a_size(x: TensorType, mode: str, size: int, corners: bool) -> None:
    assume(len(x.of_role("space")) in MODES[mode][0])
    check_law(Resize(size=size, mode=mode, align_corners=corners and "linear" in mode), x, sizes=FREE)


@settings(max_examples=30)
@given(maps("h", "w"), st.sampled_from(["linear", "cubic"]), st.integers(1, 9), st.integers(2, 9))
def test_antialias(x: TensorType, mode: str, h: int, w: int) -> None:
    # not to a width of 1: there torch 2.13 repeats the first row on the CPU
    check_law(Resize(size=axis_map(h=h, w=w), mode=mode, antialias=True), x, sizes=FREE)


@settings(max_examples=30)
@given(
    maps(),
    st.sampled_from([1, 2, 3, 1.5, 0.5, Fraction(7, 5)]),
    st.sampled_from(["nearest", "linear", "area"]),
    st.booleans(),
)
def test_resize_by_a_scale(x: TensorType, scale: object, mode: str, named: bool) -> None:
    check_law(Resize(scale=axis_map(h=scale) if named else scale, mode=mode), x, sizes=FREE)


def test_resize_takes_sizes_of_free_axes() -> None:
    x = tensor(b="b", h="h", w="w", c=2)
    assert Resize(scale=2).infer(Facts(), x).size("h") == symbol("h") * 2
    assert Resize(scale=0.5).infer(Facts(), x).size("h") == floor(symbol("h") / 2)
    check_law(Resize(size=axis_map(h=symbol("w"), w=symbol("h"))), x, sizes={"h": 3, "w": 5})


def test_repeating_on_time_is_causal() -> None:
    x = tensor(b=2, t=4, c=3)
    check_law(Resize(scale=3, on=("time",)), x)
    with pytest.raises(OpError) as caught:
        infer(Resize(scale=2, on=("time",), mode="linear"), Facts(), (x,))
    assert caught.value.code == "A208"


BLOCKS = {SpaceToDepth: DepthToSpace, PixelUnshuffle: PixelShuffle}


@settings(max_examples=40)
@given(
    tensor_types(must=("c", "h"), names=("b", "c", "h", "w", "d", "heads")),
    st.sampled_from(list(BLOCKS)),
    st.integers(1, 3),
    st.booleans(),
)
def test_blocks_of_space_as_channels(x: TensorType, down: type[Primitive], factor: int, named: bool) -> None:
    on = ("h",) if named else x.of_role("space")
    many = [factor, 2, 1][: len(on)] if named or len(on) > 2 else [factor] * len(on)
    fields = (
        {"factor": AxisMap(tuple(zip(on, many, strict=True))), "on": on}
        if len(set(many)) > 1
        else {"factor": factor, "on": on}
    )
    large = x.resized(**{name: 2 * f for name, f in zip(on, many, strict=True)})
    check_law(down(**fields), large, sizes=FREE)
    small = infer(down(**fields), Facts(), (large,))[0]
    up = BLOCKS[down](**fields)
    assert infer(up, Facts(), (small,))[0] == large
    if isinstance(small.size("c"), int):
        check_law(up, small, sizes=FREE)


def test_orders_of_channels() -> None:
    """Swin's, as its authors concatenate corners, and PyTorch's."""
    x = torch.randn(2, 4, 6, 3)
    types = (tensor(b=2, h=4, w=6, c=3),)
    corners = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
    torch.testing.assert_close(check_law(SpaceToDepth(), *types)(x), corners)
    torch.testing.assert_close(check_law(DepthToSpace(), tensor(b=2, h=2, w=3, c=12))(corners), x)
    unshuffled = F.pixel_unshuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(check_law(PixelUnshuffle(), *types)(x), unshuffled)
    uneven = check_law(PixelUnshuffle(factor=axis_map(h=2, w=3)), *types)(x)
    torch.testing.assert_close(uneven, x.reshape(2, 2, 2, 2, 3, 3).permute(0, 1, 3, 5, 2, 4).reshape(2, 2, 2, 18))


@settings(max_examples=30)
@given(
    maps(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(["same", "same", "valid", "causal", 1]),
)
def test_unfold_and_fold(x: TensorType, kernel: int, stride: int, dilation: int, padding: object) -> None:
    cut = Unfold(kernel=kernel, stride=stride, dilation=dilation, padding=padding)
    try:
        y = infer(cut, Facts(), (x,))[0]
    except OpError:
        assume(False)
    check_law(cut, x, sizes=FREE)
    size = AxisMap(tuple((name, x.size(name)) for name in x.of_role("space")))
    add = Fold(size=size, kernel=kernel, stride=stride, dilation=dilation, padding=padding)
    assert infer(add, Facts(), (y,))[0] == x
    if all(isinstance(x.size(name), int) for name in x.of_role("space")):
        check_law(add, y, sizes=FREE)


def test_windows_are_those_of_pytorch() -> None:
    x = torch.randn(2, 3, 5, 6)
    module = check_law(Unfold(kernel=3, stride=2, axis="patch"), tensor(b=2, c=3, h=5, w=6))
    columns = F.unfold(x, 3, stride=2, padding=1).reshape(2, 3, 9, 3, 3).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(module(x), columns)


def test_windows_on_time_are_causal() -> None:
    check_law(Unfold(kernel=4, stride=2), tensor(b=2, t=6, c=3))
    check_law(Fold(size=6, kernel=4, stride=2), tensor(b=2, t=3, c=3, taps=4))
    assert Fold(size=6, kernel=4, stride=2).looks_ahead(tensor(b=2, t=3, c=3, taps=4)) == {"taps"}


IMAGE = tensor(b="b", h=4, w=6, c=6)


@pytest.mark.parametrize(
    ("op", "x", "code"),
    [
        (Resize(), IMAGE, "A301"),
        (Resize(size=2, scale=2), IMAGE, "A301"),
        (Resize(size=2), tensor(b="b", c=3), "A205"),
        (Resize(size=axis_map(d=2)), IMAGE, "A205"),
        (Resize(size=0), IMAGE, "A319"),
        (Resize(scale=0.1), IMAGE, "A319"),
        (Resize(size=2, mode="bilinear"), tensor(h=4), "A319"),
        (Resize(size=2, mode="cubic"), tensor(h=4, w=4, d=4), "A319"),
        (Resize(size=2, align_corners=True), IMAGE, "A319"),
        (Resize(size=2, antialias=True), IMAGE, "A319"),
        (Resize(size=2), tensor("int", h=4), "A214"),
        (SpaceToDepth(factor=4), IMAGE, "A204"),
        (SpaceToDepth(), tensor(h=4, w=4), "A205"),
        (SpaceToDepth(factor=0), IMAGE, "A319"),
        (DepthToSpace(), IMAGE, "A204"),
        (PixelShuffle(factor=4), IMAGE, "A204"),
        (Unfold(kernel=3, axis="c"), IMAGE, "A206"),
        (Unfold(kernel=9, padding=0), IMAGE, "A204"),
        (Fold(size=4, kernel=2), tensor(h=4, w=4, taps=9), "A204"),
        (Fold(size=5, kernel=3), tensor(h=4, w=4, taps=9), "A204"),
        (Fold(size=5, kernel=3), tensor(h=4, w=4), "A205"),
    ],
    ids=str,
)
def test_refused(op: Primitive, x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert caught.value.code == code


def test_fold_exports_and_compiles_whole() -> None:
    x = torch.randn(3, 5, 2, 4)
    module = check_law(Fold(size=10, kernel=4, stride=2), tensor(b="b", h=5, c=2, taps=4))
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=True)
    for value in (x, torch.randn(2, 5, 2, 4)):
        torch.testing.assert_close(exported(value), module(value))
        torch.testing.assert_close(compiled(value), module(value))
