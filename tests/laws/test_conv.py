"""Laws of convolutions: any number of axes, in any order, however padded, is the slow sum over taps."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archlang.emit import load
from archlang.emit.torch import emit
from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.conv_transpose import ConvTranspose
from archlang.shapes import TensorType, axis
from archlang.sizes import ceil, symbol
from archlang.testing.laws import check_law, single
from archlang.testing.strategies import tensor


def axis_map(**values: int) -> AxisMap:
    return AxisMap(tuple(values.items()))


@st.composite
def maps(draw: st.DrawFn, rank: int, c: int = 4, time: bool = False) -> TensorType:
    """A feature map: `rank` axes of space, perhaps time, and up to two others, in any order, some of them free."""
    slid = draw(st.permutations(("h", "w", "d", "n")))[:rank]
    others = draw(st.sampled_from([(), ("b",), ("b",), ("b", "heads"), ("heads",)]))
    largest = 7 if rank < 3 else 4
    sizes = {name: draw(st.integers(3, largest)) for name in slid} | {name: draw(st.integers(1, 2)) for name in others}
    sizes |= {"c": c} | ({"t": 6} if time else {})
    order = draw(st.permutations(list(sizes)))
    free = (
        draw(st.sets(st.sampled_from([name for name in order if name not in ("c", "t")]))) if len(order) > 1 else set()
    )
    return tensor(**{name: name if name in free else sizes[name] for name in order})


def numbers(low: int, high: int, axes: tuple[str, ...]) -> st.SearchStrategy[object]:
    """One number, or one for each axis."""
    value = st.integers(low, high)
    return st.one_of(value, st.tuples(*[value] * len(axes)).map(lambda v: AxisMap(tuple(zip(axes, v, strict=True)))))


def fits(op: Primitive, *types: TensorType) -> bool:
    try:
        infer(op, Facts(), types)
    except OpError:
        return False
    return True


FREE = {"h": 6, "w": 5, "d": 4, "n": 7}


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3), st.sampled_from(["same", "same", "tf_same", "valid", "causal", 0, 1, 2]))
def test_convolution(data: st.DataObject, rank: int, padding: object) -> None:
    x = data.draw(maps(rank))
    slid = x.of_role("space")
    kernel, stride = data.draw(numbers(1, 4 if rank < 3 else 3, slid)), data.draw(numbers(1, 3, slid))
    dilation = data.draw(st.integers(1, 2))
    mode = data.draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    groups, bias = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.booleans())
    op = Conv(
        units=4, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, mode=mode
    )
    assume(fits(op, x))
    try:
        check_law(op, x, sizes=FREE)
    except AssertionError as failure:  # a free size that does not meet a condition
        assume("fits in" not in str(failure) and "pads in the mode" not in str(failure))
        raise


@settings(max_examples=20)
@given(
    maps(1, time=True),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 2),
    st.sampled_from(["zeros", "replicate"]),
)
def test_time_is_causal(x: TensorType, kernel: int, stride: int, dilation: int, mode: str) -> None:
    (space,) = x.of_role("space")
    op = Conv(units=3, kernel=kernel, stride=AxisMap((("t", stride), (space, 1))), dilation=dilation, mode=mode)
    assert "t" not in op.looks_ahead(x)
    assert op.infer(Facts(), x).size("t") == 6 // stride
    check_law(op, x, sizes=FREE)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size", "expected"),
    [
        (3, 1, 1, 7, 7), (5, 1, 2, 9, 9), (4, 1, 1, 9, 9), (2, 1, 1, 5, 5), (7, 1, 1, 14, 14),  # kept
        (3, 2, 1, 8, 4), (3, 2, 1, 7, 4), (7, 2, 1, 224, 112), (3, 2, 2, 9, 5), (5, 2, 1, 6, 3),  # ceil(s / 2)
        (4, 4, 1, 224, 56), (2, 2, 1, 14, 7), (16, 16, 1, 224, 14), (2, 2, 1, 7, 3),  # patches: nothing added
        (7, 4, 1, 224, 56), (1, 2, 1, 8, 4), (4, 2, 1, 8, 4), (8, 4, 1, 16, 4),
    ],
)  # fmt: skip
def test_same_padding(kernel: int, stride: int, dilation: int, size: int, expected: int) -> None:
    op = Conv(units=1, kernel=kernel, stride=stride, dilation=dilation)
    assert op.infer(Facts(), tensor(b="b", h=size, c=1)).size("h") == expected


def test_same_padding_of_free_sizes() -> None:
    y = Conv(units=8, stride=2).infer(Facts(), tensor(b="b", h="h", w="w", c=3))
    assert (y.size("h"), y.size("w")) == (ceil(symbol("h") / 2), ceil(symbol("w") / 2))
    facts = Facts()
    y = Conv(units=8, kernel=2, stride=2).infer(facts, tensor(b="b", t="t", c=3))
    assert (y.size("t"), [str(condition) for condition in facts.conditions]) == (symbol("t") / 2, ["t % 2 == 0"])


@pytest.mark.parametrize("size", [5, 6, 7, 8, "h"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 3), (1, 2), (4, 1)])
def test_tensorflow_padding(size: int | str, kernel: int, stride: int) -> None:
    x = tensor(b=2, h=size, w=4, c=3)
    op = Conv(units=2, kernel=kernel, stride=stride, padding="tf_same")
    assert op.infer(Facts(), tensor(h=7, c=3)).size("h") == -(-7 // stride)
    check_law(op, x, sizes={"h": 7})


@settings(max_examples=15)
@given(maps(2), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_depthwise(x: TensorType, kernel: int, stride: int, bias: bool) -> None:
    module = check_law(Depthwise(kernel=kernel, stride=stride, bias=bias), x, sizes=FREE)
    assert module.get_parameter("op.weight").shape == (4, 1, kernel, kernel)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3), st.sampled_from(["same", "same", "same", "valid", "causal", 0, 1]))
def test_transposed(data: st.DataObject, rank: int, padding: object) -> None:
    x = data.draw(maps(rank))
    slid = x.of_role("space")
    kernel, stride = data.draw(numbers(1, 4 if rank < 3 else 3, slid)), data.draw(numbers(1, 3, slid))
    groups, dilation = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(1, 2))
    extra = data.draw(st.sampled_from([0, 0, 1]))
    op = ConvTranspose(
        units=6, kernel=kernel, stride=stride, padding=padding, output_padding=extra, groups=groups, dilation=dilation
    )
    assume(fits(op, x))
    if padding == "same" and not extra:
        steps = [stride[name] if isinstance(stride, AxisMap) else stride for name in slid]
        assert [op.infer(Facts(), x).size(n) for n in slid] == [x.size(n) * s for n, s in zip(slid, steps, strict=True)]
    check_law(op, x, sizes=FREE)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (10, 5), (2, 2), (1, 3), (3, 1)])
def test_transposed_on_time_is_causal(kernel: int, stride: int) -> None:
    op = ConvTranspose(units=2, kernel=kernel, stride=stride)
    assert op.infer(Facts(), tensor(b="b", t="t", c=3)).size("t") == symbol("t") * stride
    assert op.looks_ahead(tensor(t=4, c=3)) == {"c"}
    check_law(op, tensor(b="b", t=4, c=3))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_given_weight(bias: bool, padding: object, mode: str) -> None:
    kernel = TensorType((axis("h", 3), axis("units", 4), axis("w", 2), axis("c", 2)))
    op = Conv(units=4, kernel=axis_map(h=3, w=2), groups=2, bias=bias, padding=padding, mode=mode)
    check_law(op, tensor(b=2, h=5, w=4, c=4), kernel)


@pytest.mark.parametrize("own", [("b",), ("heads",), ("b", "heads"), ("heads", "b")])
def test_a_weight_for_every_sample(own: tuple[str, ...]) -> None:
    sizes: dict[str, int | str] = {"b": "b", "heads": 2}
    kernel = TensorType((*tensor(**{name: sizes[name] for name in own}), *tensor(units=4, c=2, h=3, w=3)))
    check_law(Conv(units=4, groups=2), tensor(b="b", heads=2, h=5, w=4, c=4), kernel, sizes={"b": 3})
    if own == ("b",):
        check_law(Conv(units=4, groups=2), tensor(h=5, w=4, c=4, b="b"), kernel, sizes={"b": 3})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_given_offset(own: bool, bias: bool) -> None:
    x, units = tensor(b=2, h=5, w=4, c=4), tensor(units=6)
    check_law(Conv(units=6, groups=2, bias=bias), x, None if own else tensor(units=6, c=2, h=3, w=3), units)
    check_law(Depthwise(bias=bias), x, None if own else tensor(c=4, h=3, w=3), tensor(c=4))
    kernel = TensorType((axis("h", 3), axis("units", 3), axis("w", 3), axis("c", 4)))
    op = ConvTranspose(units=6, kernel=3, stride=2, groups=2, bias=bias)
    check_law(op, x, None if own else kernel, units)
    check_law(op, x, kernel)


def test_an_offset_beside_a_weight_for_every_sample() -> None:
    check_law(Conv(units=4), tensor(b=2, h=5, w=4, c=4), tensor(b=2, units=4, c=4, h=3, w=3), tensor(units=4))


@pytest.mark.parametrize("op", [Conv(units=4), ConvTranspose(units=4, kernel=2)])
def test_refused_offsets(op: Primitive) -> None:
    for offset in (tensor(units=5), tensor(c=4), tensor(units=4, k=2)):
        with pytest.raises(OpError) as caught:
            infer(op, Facts(), (IMAGE, None, offset))
        assert caught.value.about == "offset"


IMAGE = tensor(b="b", h=8, w=8, c=6)


@pytest.mark.parametrize(
    ("op", "x", "code", "about"),
    [
        (Conv(units=4), tensor(b="b", h=8), "A205", "x"),
        (Conv(units=4), tensor(b="b", c=8), "A205", "x"),
        (Conv(units=4, on=("k",)), IMAGE, "A205", "x"),
        (Conv(units=4), tensor("int", b="b", h=8, c=3), "A214", "x"),
        (Conv(units=4, groups=4), IMAGE, "A204", "groups"),
        (Conv(units=4, groups=3), IMAGE, "A204", "groups"),
        (Conv(units=4, groups=0), IMAGE, "A319", "groups"),
        (Conv(units=4, kernel=0), IMAGE, "A319", "kernel"),
        (Conv(units=4, stride=0), IMAGE, "A319", "stride"),
        (Conv(units=4, padding=-1), IMAGE, "A319", "padding"),
        (Conv(units=4, kernel=axis_map(h=3)), IMAGE, "A206", "kernel"),
        (Conv(units=4, kernel=axis_map(h=3, w=3, d=3)), IMAGE, "A206", "kernel"),
        (Conv(units=4, kernel=symbol("k")), IMAGE, "A309", "kernel"),
        (Conv(units=4, kernel=9, padding="valid"), IMAGE, "A204", "kernel"),
        (Conv(units=4, kernel=19, mode="reflect"), IMAGE, "A204", "padding"),
        (Conv(units=4, kernel=19, mode="circular"), IMAGE, "A204", "padding"),
        (Conv(units=4), tensor(d=3, h=3, w=3, n=3, c=3), "A206", "on"),
        (Conv(units=4, padding=1), tensor(b="b", t="t", c=3), "A208", "padding"),
        (Conv(units=4, padding="valid"), tensor(b="b", t="t", c=3), "A208", "padding"),
        (Conv(units=4, padding="tf_same"), tensor(b="b", t="t", c=3), "A208", "padding"),
        (Conv(units=4, mode="reflect"), tensor(b="b", t=9, c=3), "A208", None),
        (Conv(units=4, stride=2), tensor(b="b", t=7, c=3), "A204", "stride"),
        (Depthwise(), tensor(b="b", h=8), "A205", "x"),
        (ConvTranspose(units=4, kernel=3, padding=1), tensor(b="b", t="t", c=3), "A208", "padding"),
        (ConvTranspose(units=4, kernel=3, padding="tf_same"), IMAGE, "A319", "padding"),
        (ConvTranspose(units=4, kernel=3, padding=9), IMAGE, "A204", "padding"),
        (ConvTranspose(units=4, kernel=3, output_padding=2), IMAGE, "A319", "output_padding"),
        (ConvTranspose(units=4, kernel=3, groups=4), IMAGE, "A204", "groups"),
    ],
    ids=str,
)  # fmt: skip
def test_refused(op: Primitive, x: TensorType, code: str, about: str | None) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert (caught.value.code, caught.value.about) == (code, about)


@pytest.mark.parametrize(
    "weight",
    [
        tensor(units=5, c=6, h=3, w=3),
        tensor(units=4, c=3, h=3, w=3),
        tensor(units=4, c=6, h=5, w=3),
        tensor(units=4, c=6, h=3),
        tensor(units=4, c=6, h=3, w=3, k=2),
    ],
    ids=str,
)
def test_refused_weights(weight: TensorType) -> None:
    with pytest.raises(OpError) as caught:
        infer(Conv(units=4), Facts(), (IMAGE, weight))
    assert caught.value.code in ("A204", "A205")
    assert caught.value.about == "weight"


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_unknown_words_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="must be a number or one of"):
        Conv(units=4, padding="smae", mode=mode)
    with pytest.raises(ValueError, match="mode"):
        Conv(units=4, mode="mirror")


@pytest.mark.parametrize(
    ("op", "types"),
    [
        (Conv(units=4, stride=2, padding="tf_same"), [tensor(b="b", h="h", w="w", c=3)]),
        (Conv(units=4, kernel=4), [tensor(b="b", h="h", w="w", c=3)]),
        (Conv(units=4), [tensor(b="b", h="h", w="w", c=3), tensor(b="b", units=4, c=3, h=3, w=3)]),
        (Conv(units=4), [tensor(b="b", heads=2, h="h", w="w", c=3)]),
        (ConvTranspose(units=4, kernel=4, stride=2), [tensor(b="b", t="t", c=3)]),
    ],
    ids=str,
)
def test_exports_and_compiles_whole(op: Primitive, types: list[TensorType]) -> None:
    """One graph, for any batch and map."""
    graph, _ = single(op, types)
    module = load(emit(graph), "Net")()
    sizes = {"b": 3, "h": 7, "w": 9, "t": 5}
    shapes = [[size if isinstance(size := a.size, int) else sizes[a.name] for a in type_] for type_ in types]
    inputs = [torch.randn(shape) for shape in shapes]
    auto = torch.export.Dim.AUTO
    dynamic = tuple({i: auto for i, a in enumerate(t) if not isinstance(a.size, int)} for t in types)
    exported = torch.export.export(module, tuple(inputs), dynamic_shapes=dynamic).module()
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=True)
    more = {"b": 2, "h": 10, "w": 6, "t": 8}
    others = [torch.randn([a.size if isinstance(a.size, int) else more[a.name] for a in type_]) for type_ in types]
    for arguments in (inputs, others):
        torch.testing.assert_close(exported(*arguments), module(*arguments))
        torch.testing.assert_close(compiled(*arguments), module(*arguments))


@pytest.mark.parametrize("dilation", [1, 3])
def test_steps_over_time_keep_the_tail_of_the_signal(dilation: int) -> None:
    """What `step` sees of the past is what later windows still see of it."""
    series = tensor(b="b", t="t", c=4)
    given = {"kernel": 4, "dilation": dilation}
    for op in (Conv(units=6, **given), Conv(units=4, groups=2, bias=False, **given), Depthwise(**given)):
        assert op.state(series)["tail"].size("t") == 3 * dilation
        check_law(op, series, sizes={"t": 9})
    strided = Conv(units=6, stride=2, **given)
    assert strided.state(series)["tail"].size("t") == 3 * dilation - 1
    check_law(strided, series, sizes={"t": 10})
    assert Conv(units=6, kernel=2, stride=2).state(series) == {}
    assert Conv(units=6, kernel=1).state(series) == {}
