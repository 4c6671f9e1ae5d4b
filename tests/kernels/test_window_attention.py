"""Attention inside windows."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint

from tests.kernels import check, emitted
from tests.kernels.test_near_attention import scored

MAP = """
model net {
  input q: [b, z: space, h, w, heads, c]
  input k: [b, z: space, h, w, heads, c]
  input there: bool[b, z: space, h, w]
  input near: [heads, query = 27, key = 27]
  input far: [heads, query = 125, key = 125]
  small = attend(q, k, k, bias = near, mask = there, over = windows(3, shift = 1))
  large = attend(q, k, k, bias = far, over = windows(5))
  line = attend(q, k, k, over = axial(h))
  row = attend(q, k, k, on = w, score = sigmoid, over = windows(4))
  column = attend(q, k, k, on = h, score = relu(power = 2), cap = 2, over = windows(3))
  input doc: segments[b, z, h, w]
  input weight: [heads]
  input pair: [b, heads, query = 9, key = 9]
  papers = attend(q, k, k, sink = weight, segments = doc, bias = pair, on = [h, w], over = windows(3))
  output y = small + large + line + row + column + papers
}
"""
LINE = """
model net {
  input q: [b, n = 12, heads, c]
  input near: [heads, query = 3, key = 3]
  output y = attend(q, q, q, bias = near, over = windows(3, shift = 1))
}
"""
TWO = """
model net {
  input q: [b, h, w, heads, c]
  input bias: [heads, query = 49, key = 49]
  input doc: segments[b, h, w]
  output y = attend(q, q, q, bias = bias, over = windows(7, shift = 3))
}
"""
HALF = torch.float16
SHAPES = [  # map, window, the head sizes of keys and values, and more
    ((1, 2, 2), (1, 1, 1), 16, 16, {}),
    ((1, 7, 14), (1, 7, 7), 32, 32, {"shift": (0, 0, 3), "kind": HALF}),
    ((6, 4), (3, 2), 24, 5, {"spread": True}),
    ((17,), (17,), 80, 8, {"kind": HALF}),
    ((63,), (63,), 16, 16, {"kind": HALF}),
    ((64,), (64,), 16, 128, {"kind": HALF}),
    ((100,), (100,), 32, 16, {"kind": HALF}),
    ((4, 8), (2, 4), 16, 16, {"step": (2, 2), "mask": True}),
    pytest.param((6, 6), (6, 3), 16, 32, {"shift": (0, 2), "mask": True}, marks=pytest.mark.slow),
    ((2, 2, 4), (1, 2, 4), 8, 16, {"shift": (1, 0, 2)}),
    ((4,), (2,), 16, 16, {"kind": torch.bfloat16}),
    ((4,), (4,), 16, 16, {"groups": 2}),
    ((4, 4), (2, 4), 16, 16, {"bias": False, "shift": (1, 0)}),
    ((4,), (4,), 16, 16, {"scale": 0.3}),
    ((1, 1), (1, 1), 16, 16, {"score": ("sigmoid", {"bias": 0.0})}),
    ((2, 17), (2, 17), 16, 16, {"score": ("sigmoid", {"bias": -3.5}), "cap": 2.0, "kind": HALF}),
    ((1, 63), (1, 63), 16, 16, {"score": ("relu", {"count": 63}), "kind": HALF}),
    ((64, 2), (64, 1), 16, 16, {"score": ("relu", {"power": 2, "count": 64}), "scale": 0.3, "kind": HALF}),
    ((100, 1), (100, 1), 16, 16, {"score": ("sigmoid", {"bias": -4.6}), "kind": HALF}),
    ((4, 6), (2, 3), 16, 16, {"score": ("relu", {"power": 2}), "cap": 1.5, "mask": True, "shift": (1, 0)}),
    ((4, 6), (2, 3), 16, 16, {"cap": 1.5, "groups": 2}),
    ((1, 1), (1, 1), 16, 16, {"sink": True, "documents": True}),
    ((4, 17), (2, 17), 16, 16, {"documents": True, "shift": (1, 0)}),
    ((1, 63), (1, 63), 16, 16, {"sink": True, "mask": True, "kind": HALF}),
    ((64, 2), (64, 1), 16, 16, {"documents": True, "mask": True, "sink": True, "kind": HALF}),
    ((100, 1), (100, 1), 16, 16, {"sink": True, "cap": 2.0, "kind": HALF}),
    ((4, 6), (2, 3), 16, 16, {"documents": True, "score": ("sigmoid", {"bias": -1.0}), "groups": 2}),
]


@pytest.fixture(scope="module")
def modules() -> list[Any]:
    """For lines and for maps."""
    return [emitted(LINE), emitted(MAP)]


@pytest.fixture(scope="module")
def module(modules: list[Any]) -> Any:
    return modules[0]


def inputs(
    size: Any,
    window: Any,
    c: int,
    d: int,
    groups: int = 1,
    mask: bool = False,
    bias: bool = True,
    documents: bool = False,
    sink: bool = False,
) -> list[Any]:
    """q, k, v, and then what there is of a bias, a mask, documents and a sink: told apart by their types."""
    random = torch.Generator().manual_seed(0)
    places, heads = torch.Size(window).numel(), 2 * groups if groups > 1 else 1
    batch = 2 if len(size) == 1 and size[0] < 20 else 1
    q = torch.randn(batch, *size, heads, c, generator=random)
    k, v = (torch.randn(batch, *size, heads // groups, width, generator=random) for width in (c, d))
    return [
        *(q, k, v),
        *([torch.randn(heads, places, places, generator=random)] if bias else []),
        *([torch.rand(batch, *size, 1, generator=random) > 0.3] if mask else []),
        *([torch.randint(3, (batch, *size, 1), generator=random)] if documents else []),
        *([torch.randn(1, heads, 1, 1, generator=random)] if sink else []),
    ]


def name_of(x: torch.Tensor) -> str:
    """Which argument one of the `inputs` is."""
    if not x.is_floating_point():
        return "mask" if x.dtype == torch.bool else "segments"
    return "sink" if x.ndim == 4 else "bias"


def forms(module: Any, size: Any, window: Any, **options: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    core = {name: options.pop(name) for name in ("score", "cap") if name in options}
    if "score" in core:
        core["score"] = scored(module, *core["score"])
    border = module.shift_bias(size, window, options["shift"]) if "shift" in options else None

    def call(function: Any, q: Any, k: Any, v: Any, *more: Any) -> Any:
        given: dict[str, Any] = {name_of(x): x for x in more}
        own = core | ({"sink": given.pop("sink")} if "sink" in given else {})
        given["border"] = None if border is None else border.to(q.dtype)
        if function is module.window_attention:
            k, v = (x.repeat_interleave(max(1, q.shape[-2] // x.shape[-2]), -2) for x in (k, v))
        if "mask" in given:
            given["core"] = F.scaled_dot_product_attention
        if own:
            given["core"] = partial(module.scored_attention, **own)
        return function(q, k, v, window, **given, **options)

    return lambda *x: call(module.triton_window_attention, *x), lambda *x: call(module.window_attention, *x)


@pytest.mark.parametrize(("size", "window", "c", "d", "options"), SHAPES, ids=str)
def test_windows(modules: Any, size: Any, window: Any, c: int, d: int, options: dict[str, Any]) -> None:
    more = "groups", "mask", "bias", "documents", "sink"
    own = {name: options[name] for name in more if name in options}
    rest = {name: value for name, value in options.items() if name not in (*more, "kind")}
    module = modules[len(size) > 1 or "mask" in options]
    check(*forms(module, size, window, **rest), inputs(size, window, c, d, **own), options.get("kind", torch.float32))


def test_a_window_that_sees_nothing_is_0(modules: Any) -> None:
    q, k, v, _, mask = inputs((2, 4), (2, 2), 16, 16, mask=True)
    mask[:, :, :2] = False
    assert mask.shape == (1, 2, 4, 1)
    kernel, _ = forms(modules[1], (2, 4), (2, 2))
    found = kernel(q, k, v, mask)
    assert not found[:, :, :2].any() and found[:, :, 2:].isfinite().all()


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("batch", "windows"), [(1, 3), (2, 1), (2, 3)])
def test_a_bias_for_each_sample_or_window(modules: list[Any], batch: int, windows: int, heads: int) -> None:
    """Where what must not be seen is -inf, as a mask of pairs is written; three windows of 2 x 3 places."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 9, 2, 16, generator=random) for _ in range(3))
    bias = torch.randn(batch, windows, heads, 6, 6, generator=random)
    seen = torch.rand(bias.shape, generator=random) > 0.3
    kernel, form = forms(modules[1], (2, 9), (2, 3))
    own = lambda f: lambda q, k, v, bias: f(q, k, v, torch.where(seen | torch.eye(6).bool(), bias, float("-inf")))  # noqa: E731
    check(own(kernel), own(form), [q, k, v, bias])


@pytest.mark.parametrize("lacking", ["q", "k", "v", "kv"])
def test_one_of_q_k_v_may_lack_batch_and_heads(module: Any, lacking: str) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = [(1, 4, 1, 16) if name in lacking else (2, 4, 2, 16) for name in "qkv"]
    given = [torch.randn(shape, generator=random) for shape in shapes]
    check(*forms(module, (4,), (2,)), given)


def test_samples_may_lie_far_apart(module: Any) -> None:
    """Beyond 2^31 elements."""
    far = torch.empty(2**31 + 1024, dtype=torch.float16)  # memory that is not touched is not there
    near = inputs((4,), (4,), 16, 16)
    q = far.as_strided((2, 4, 1, 16), (2**31, 16, 16, 1)).copy_(near[0])
    kernel, form = forms(module, (4,), (4,))
    found = kernel(q, *(x.half() for x in near[1:]))
    torch.testing.assert_close(found, form(*near).half(), atol=4e-3, rtol=4e-3)


def test_compilers_take_it_as_one_step(modules: list[Any]) -> None:
    given = inputs((2, 2), (2, 2), 16, 16)
    kernel, form = forms(modules[1], (2, 2), (2, 2), score=("relu", {"count": 4}), cap=2.0)
    compiled = torch.compile(lambda *x: kernel(*x) * 2, backend="aot_eager", fullgraph=True)
    check(compiled, lambda *x: form(*x) * 2, given)


def test_checkpointing_and_autocast(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs((4,), (4,), 16, 16)]
    kernel, _ = forms(module, (4,), (4,))
    plain = kernel(*given)
    again = torch.utils.checkpoint.checkpoint(kernel, *given, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), given), torch.autograd.grad(plain.sum(), given))
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel(*given).dtype == torch.bfloat16


def test_operators_are_well_formed(module: Any) -> None:
    q, k, v, bias = (x.requires_grad_() for x in inputs((4,), (4,), 16, 16))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(
        module.attend_in_windows, (q, k, v, bias[None, None], None, None, None, [4], [1], [0], 0.25), test_utils=tests
    )


def launch(kind: torch.dtype, side: int, c: int, name: str = "") -> None:
    """One of the configurations that `test_aot` compiles: two-dimensional windows, shifted, with a bias; with the
    square of a rectified score under a cap; with documents, sinks and a bias for each window of each sample.
    """
    options = {"relu": "score = relu(power = 2), cap = 5, ", "documents": "segments = doc, sink = 1, "}
    module = emitted(TWO.replace("over =", f"{options.get(name, '')}over ="))
    module.runs = lambda *x: True
    q = torch.empty(1, 2 * side, 2 * side, 4, c, dtype=kind, requires_grad=True)
    bias = torch.empty(4, side**2, side**2, dtype=kind, requires_grad=True)
    more: dict[str, Any] = {}
    if name == "relu":
        more = {"core": partial(module.scored_attention, score=scored(module, name, {"power": 2}), cap=5.0)}
    if name == "documents":
        sink = torch.empty(4, requires_grad=True)
        more = {"core": partial(module.scored_attention, sink=sink), "segments": torch.empty(1, 1, 1, 1).long()}
        bias = torch.empty(1, 4, 4, side**2, side**2, dtype=kind, requires_grad=True)
    module.triton_window_attention(q, q, q, (side, side), shift=(3, 3), bias=bias, **more).backward(q)
