"""Attention to what is near: neighborhoods, sliding windows, chunks, discs."""

import sys
from functools import partial
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

import archlang
from tests.kernels import check, emitted

MAP = """
model net {
  input q: [b, z: space, h, w, heads, c]
  input there: bool[b, z: space, h, w]
  input doc: int[b, z: space, h, w]
  input near: [heads, z_offset = 3, h_offset = 5, w_offset = 3]
  three = attend(q, q, q, bias = near, over = neighborhood([z = 3, h = 5, w = 3], dilation = [z = 1, h = 1, w = 2]))
  disc = attend(q, q, q, mask = there, segments = doc, on = [h, w], over = radius(2))
  line = attend(q, q, q, on = h, over = chunks(4) & sliding(3))
  output y = three + disc + line
}
"""
LINE = """
model net {
  input q: [b, n, heads, c]
  input near: [heads, n_offset = 5]
  input there: bool[b, n]
  input doc: int[b, n]
  first = attend(q, q, q, bias = near, cap = 2, over = sliding(3) & chunks(2))
  second = attend(q, q, q, mask = there, sink = 0.5)
  third = attend(q, q, q, segments = doc, over = neighborhood(3))
  fourth = attend(q, q, q, score = sigmoid, over = chunks(3)) + attend(q, q, q, score = relu(power = 2))
  output y = first + second + third + fourth
}
"""
SLIDING = """
model net {
  input q: [b, t, heads, c]
  output y = attend(q, q, q, sink = 0.5, over = causal & sliding(8))
}
"""
SCORED = """
model net {
  input q: [b, t, heads, c]
  output y = attend(q, q, q, score = sigmoid, cap = 5, over = causal & sliding(8))
}
"""
PACKED = """
model net {
  input q: [b, t, heads, c]
  input doc: segments[b, t]
  output y = attend(q, q, q, over = causal & sliding(8))
}
"""
TABLE = """
model net {
  input q: [b, t, heads, c]
  input doc: segments[b, t]
  input near: [heads, t_offset = 15]
  output y = attend(q, q, q, bias = near, segments = doc, over = sliding(8))
}
"""
NEIGHBORS = """
model net {
  input q: [b, h, w, heads, c]
  input near: [heads, h_offset = 5, w_offset = 5]
  output y = attend(q, q, q, bias = near, over = neighborhood(3, dilation = 2))
}
"""
HALF = torch.float16


SHAPES = [  # map, bounds of each axis, the head sizes of keys and values, and more
    ((1,), [{"nearest": 1}], 16, 16, {}),
    ((17,), [{"before": 2, "after": 0}], 24, 5, {"table": (5,)}),
    ((40,), [{"nearest": 25}], 16, 16, {}),
    ((63,), [{"nearest": 3, "step": 3}], 16, 16, {"kind": HALF}),
    ((64,), [{"chunk": 20}], 80, 16, {"kind": HALF}),
    ((100,), [{"before": 9, "after": 9}], 16, 128, {"kind": HALF}),
    ((3, 4), [{"nearest": 3}, {"nearest": 1}], 16, 16, {"table": (5, 1)}),
    ((2, 6), [{"nearest": 1, "step": 2}, {"nearest": 3, "step": 2}], 8, 16, {"table": (1, 5), "mask": True}),
    ((4, 5), [{"before": 2, "after": 2}] * 2, 16, 32, {"radius": 3, "mask": True}),
    ((1, 3, 2), [{"nearest": 1}, {"nearest": 3}, {"nearest": 1}], 16, 16, {"table": (1, 5, 1)}),
    ((9,), [{"chunk": 4, "start": 3, "nearest": 5}], 16, 16, {"groups": 2, "cap": 2.0, "sink": True}),
    ((12,), [{"after": 0}], 16, 16, {"sink": True, "groups": 2}),
    ((9,), [{}], 16, 16, {"cap": 1.5, "mask": True}),
    ((8,), [{"before": 3, "after": 3}], 16, 16, {"table": (3,), "scale": 0.3}),
    ((8,), [{"nearest": 3}], 16, 16, {"table": (5,), "kind": torch.bfloat16}),
    ((1,), [{"after": 0}], 16, 16, {"segments": True}),
    ((17,), [{}], 16, 16, {"segments": True, "mask": True}),
    ((63,), [{"after": 0}], 16, 128, {"segments": True, "kind": HALF}),
    ((64,), [{"nearest": 5, "step": 3}], 16, 16, {"segments": True, "table": (9,), "kind": HALF}),
    ((100,), [{"after": 0, "before": 70}], 16, 16, {"segments": True, "groups": 2, "kind": HALF}),
    ((9,), [{"before": 4, "after": 4}], 16, 16, {"segments": True, "unsorted": True, "table": (9,)}),
    ((4, 5), [{"before": 2, "after": 2}] * 2, 16, 16, {"radius": 3, "segments": True}),
    ((1,), [{"nearest": 1}], 16, 16, {"score": ("sigmoid", {"bias": -1.5})}),
    ((17,), [{"before": 2, "after": 2}], 16, 16, {"score": ("sigmoid", {"bias": 0.3}), "table": (5,), "cap": 2.0}),
    ((63,), [{"after": 0}], 16, 16, {"score": ("relu", {"count": 63}), "segments": True, "kind": HALF}),
    ((64,), [{"nearest": 5}], 16, 16, {"score": ("relu", {"power": 2, "count": 5}), "groups": 2, "kind": HALF}),
    ((100,), [{}], 16, 16, {"score": ("sigmoid", {"bias": -4.6}), "scale": 0.3, "mask": True, "kind": HALF}),
    ((9,), [{"chunk": 4}], 16, 16, {"score": ("relu", {"power": 3}), "cap": 2.0, "table": (7,)}),
    ((9,), [{"chunk": 4}], 16, 16, {"score": ("relu", {}), "mask": True}),
]
EXTRA = ("table", "mask", "segments", "sink")


@pytest.fixture(scope="module")
def modules() -> list[Any]:
    """For lines and for maps."""
    return [emitted(LINE), emitted(MAP)]


def near(module: Any, size: Any, bounds: Any) -> list[Any]:
    """The axes, each in one tile in PyTorch."""
    cuts = [-(-whole // axis.get("step", 1)) for whole, axis in zip(size, bounds, strict=True)]
    return [module.NearAxis(tile=cut, width=cut, lead=0, **axis) for cut, axis in zip(cuts, bounds, strict=True)]


ALIBI = """
model net {
  input q: [b, n = 12, heads = 2, c = 16]
  near = attend(q, q, q, position = alibi, over = sliding(3))
  output y = near + attend(q, q, q, position = alibi, over = windows(4))
}
"""


def test_biases_that_are_not_learned_have_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    network = archlang.loads(ALIBI).net()
    plain, fused = (network.module(target=target) for target in ("torch", "triton"))
    module: Any = sys.modules[type(fused).__module__]
    for kernel in ("near_attention_backward_table", "window_attention_backward_bias"):
        monkeypatch.setattr(module, kernel, None)
    check(fused, plain, [torch.randn(2, 12, 2, 16, generator=torch.Generator().manual_seed(0))])


def inputs(
    size: Any,
    c: int,
    d: int,
    groups: int = 1,
    table: Any = None,
    mask: bool = False,
    segments: bool = False,
    sink: bool = False,
    unsorted: bool = False,
) -> Any:
    random = torch.Generator().manual_seed(0)
    heads, batch = 2 * groups if groups > 1 else 1, 2 if len(size) == 1 and size[0] < 20 else 1
    q = torch.randn(batch, *size, heads, c, generator=random)
    k, v = (torch.randn(batch, *size, heads // groups, width, generator=random) for width in (c, d))
    documents = torch.randint(-1, 3, (batch, *size), generator=torch.Generator().manual_seed(1))
    if not unsorted:
        documents = documents.flatten(1).sort(-1)[0].view(batch, *size)
    more = {
        "table": torch.randn(heads, *table, generator=random) if table else None,
        "mask": torch.rand(batch, *size, generator=random) > 0.3 if mask else None,
        "segments": documents if segments else None,
        "sink": torch.randn(heads, 1, 1, generator=random) if sink else None,
    }
    return [q, k, v, *(x for x in more.values() if x is not None)], [name for name, x in more.items() if x is not None]


def scored(module: Any, name: str, given: dict[str, float]) -> Any:
    """A score as emitted modules have it."""
    return partial(getattr(module, f"{name}_score"), **given) if given else getattr(module, f"{name}_score")


def forms(module: Any, axes: Any, names: Any, **options: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    if "score" in options:
        options["score"] = scored(module, *options["score"])

    def call(function: Any, *x: Any) -> Any:
        return function(*x[:3], axes, **dict(zip(names, x[3:], strict=True)), **options)

    return lambda *x: call(module.triton_near_attention, *x), lambda *x: call(module.near_attention, *x)


@pytest.mark.parametrize(("size", "bounds", "c", "d", "options"), SHAPES, ids=str)
def test_near(modules: Any, size: Any, bounds: Any, c: int, d: int, options: dict[str, Any]) -> None:
    own = {name: options[name] for name in ("groups", "unsorted", *EXTRA) if name in options}
    rest = {name: value for name, value in options.items() if name not in (*own, "kind")}
    given, names = inputs(size, c, d, **own)
    module = modules[len(size) > 1]
    check(*forms(module, near(module, size, bounds), names, **rest), given, options.get("kind", torch.float32))


def test_what_sees_nothing_is_0(modules: Any) -> None:
    (q, k, v, mask), names = inputs((12,), 16, 16, mask=True)
    mask[:, :6] = False
    found, _ = forms(modules[0], near(modules[0], (12,), [{"before": 2, "after": 2}]), names)
    y = found(q, k, v, mask)
    assert not y[:, :4].any() and y.isfinite().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tiles_of_other_documents_are_not_read(modules: Any) -> None:
    (q, k, v, segments), names = inputs((48,), 16, 16, segments=True)
    kernel, _ = forms(modules[0], near(modules[0], (48,), [{}]), names)
    v[:, 32:] = float("nan")
    segments[:] = torch.arange(48) // 16
    assert kernel(q, k, v, segments)[:, :32].isfinite().all()


def test_samples_may_lie_far_apart(modules: Any) -> None:
    """Beyond 2^31 elements."""
    far = torch.empty(2**31 + 1024, dtype=HALF)  # memory that is not touched is not there
    (q, k, v), names = inputs((4,), 16, 16)
    apart = far.as_strided((2, 4, 1, 16), (2**31, 16, 16, 1)).copy_(q)
    kernel, form = forms(modules[0], near(modules[0], (4,), [{"before": 1}]), names)
    torch.testing.assert_close(kernel(apart, k.half(), v.half()), form(q, k, v).half(), atol=4e-3, rtol=4e-3)


def test_compilers_take_it_as_one_step(modules: Any) -> None:
    (given, names), options = inputs((4,), 16, 16, table=(3,)), {"score": ("sigmoid", {"bias": -1.0}), "cap": 2.0}
    kernel, form = forms(modules[0], near(modules[0], (4,), [{"nearest": 3}]), names, **options)
    check(torch.compile(lambda *x: kernel(*x) * 2, backend="aot_eager", fullgraph=True), lambda *x: form(*x) * 2, given)


def test_checkpointing_and_autocast(modules: Any) -> None:
    given, names = inputs((4,), 16, 16, table=(3,))
    kernel, _ = forms(modules[0], near(modules[0], (4,), [{"nearest": 3}]), names)
    plain, again = (
        kernel(*(x.requires_grad_() for x in given)),
        torch.utils.checkpoint.checkpoint(kernel, *given, use_reentrant=False),
    )
    torch.testing.assert_close(torch.autograd.grad(again.sum(), given), torch.autograd.grad(plain.sum(), given))
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel(*given).dtype == torch.bfloat16


def test_operators_are_well_formed(modules: Any) -> None:
    (q, k, v, table, sink), _ = inputs((4,), 16, 16, table=(3,), sink=True)
    given = (*(x.requires_grad_() for x in (q, k, v, table)), None, None, sink.flatten().requires_grad_())
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    bounds = [1, 1, 1, 4, 0, 4]
    for score in (("softmax", 1, 0.0), ("sigmoid", 1, -1.0)):
        torch.library.opcheck(modules[0].attend_near, (*given, bounds, 0, 0.0, *score, 0.25), test_utils=tests)


def launch(kind: torch.dtype, rank: int, c: int, program: str = "") -> None:
    """One of the configurations that `test_aot` compiles: a sliding window with a sink, a neighborhood with a bias, the
    window over documents, with a bias, with both, with a sigmoid under a cap, or with all that and a bias.
    """
    texts = {
        "packed": PACKED,
        "table": TABLE,
        "both": TABLE,
        "scored": SCORED,
        "all": LINE,
        "": SLIDING if rank == 1 else NEIGHBORS,
    }
    module = emitted(texts[program])
    module.runs = lambda *x: True
    q = torch.empty(1, *[16] * rank, 4, c, dtype=kind, requires_grad=True)
    more: dict[str, Any]
    if rank == 1:
        near = [module.NearAxis(tile=8, width=15, lead=0, before=7, after=0)]
        more = {} if program else {"sink": torch.zeros(4, 1, 1, requires_grad=True)}
        if program in ("packed", "both", "all"):
            more["segments"] = torch.zeros(1, 16, dtype=torch.long)
        if program in ("scored", "all"):
            more |= {"score": scored(module, "sigmoid", {"bias": -2.0}), "cap": 5.0}
        if program in ("table", "both", "all"):
            more["table"] = torch.empty(4, 15, dtype=kind, requires_grad=True)
    else:
        table = torch.empty(4, *[5] * rank, dtype=kind, requires_grad=True)
        near, more = [module.NearAxis(tile=8, width=10, step=2, lead=0, nearest=3)] * rank, {"table": table}
    module.triton_near_attention(q, q[..., :2, :], q[..., :2, :], near, **more).backward(q)
