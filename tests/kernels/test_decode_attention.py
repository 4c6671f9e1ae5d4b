"""Attention of one query to many keys."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted
from tests.kernels.test_near_attention import scored

NET = """
model net {
  input q: [b, heads = 2, group, c]
  input k: [b, m: space, heads = 2, c]
  input there: bool[b, m: space]
  input near: [heads = 2, group, m: space]
  first = attend(q, k, k, bias = near, mask = there, cap = 2, sink = 0.5)
  output y = first + attend(q, k, k, score = sigmoid) + attend(q, k, k, score = relu(power = 2), mask = there)
}
"""
CAPPED = """
model net {
  input q: [b, heads = 2, group = 4, c]
  input k: [b, m: space, heads = 2, c]
  input there: bool[b, m: space]
  output y = attend(q, k, k, mask = there, cap = 2, sink = 0.5)
}
"""
HALF = torch.float16
SHAPES = [  # keys, the head sizes of keys and values, and more
    (1, 16, 16, {"sink": True}),
    (17, 24, 5, {"mask": True, "groups": 1}),
    (63, 16, 16, {"bias": True, "mask": True, "cap": 2.0}),
    (64, 16, 16, {"bias": True, "sink": True, "cap": 1.5, "scale": 0.3}),
    (100, 80, 16, {"mask": True, "groups": 17}),
    (100, 16, 16, {"mask": True, "kind": torch.bfloat16}),
    (300, 16, 128, {"mask": True, "sink": True, "bias": True, "kind": HALF}),
    (300, 16, 16, {"score": ("sigmoid", {"bias": -5.7}), "mask": True}),
    (100, 16, 16, {"score": ("relu", {"power": 2, "count": 100}), "bias": True, "cap": 2.0}),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(keys: int, c: int, d: int, groups: int = 3, **given: bool) -> tuple[list[torch.Tensor], list[str]]:
    random = torch.Generator().manual_seed(0)
    batch, heads = 2, 2 * groups
    q = torch.randn(batch, heads, c, generator=random)
    k, v = (torch.randn(batch, keys, 2, width, generator=random) for width in (c, d))
    more = {
        "bias": torch.randn(1, heads, 1, keys, generator=random),
        "mask": torch.rand(batch, 1, 1, keys, generator=random) > 0.3,
        "sink": torch.randn(heads, 1, 1, generator=random),
    }
    names = [name for name in more if given.get(name)]
    return [q, k, v, *(more[name] for name in names)], names


def forms(module: Any, names: list[str], **options: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    if "score" in options:
        options["score"] = scored(module, *options["score"])

    def call(function: Any, *x: Any) -> Any:
        return function(*x[:3], **dict(zip(names, x[3:], strict=True)), **options)

    return lambda *x: call(module.triton_decode_attention, *x), lambda *x: call(module.decode_attention, *x)


@pytest.mark.parametrize(("keys", "c", "d", "options"), SHAPES, ids=str)
def test_one_query(module: Any, keys: int, c: int, d: int, options: dict[str, Any]) -> None:
    own = {name: options[name] for name in ("bias", "mask", "sink", "groups") if name in options}
    rest = {name: value for name, value in options.items() if name not in (*own, "kind")}
    given, names = inputs(keys, c, d, **own)
    check(*forms(module, names, **rest), given, options.get("kind", torch.float32))


def test_a_query_that_sees_nothing_is_0(module: Any) -> None:
    (q, k, v, mask), names = inputs(70, 16, 16, mask=True)
    mask[0], mask[1, ..., :64] = False, False
    kernel, form = forms(module, names)
    found = kernel(q, k, v, mask)
    assert not found[0].any()
    torch.testing.assert_close(found, form(q, k, v, mask))


def test_caches_are_read_where_they_lie(module: Any) -> None:
    """As [batch, heads, places, c], longer than what is filled, in one tensor beyond 2^31 elements."""
    far = torch.empty(2**31 + 8192, dtype=HALF)  # memory that is not touched is not there
    (q, k, v, mask), names = inputs(40, 16, 16, mask=True)
    cache = far.as_strided((2, 2, 100, 16), (2**31, 1600, 16, 1))
    cache[:, :, 40:] = float("nan")
    cache[:, :, :40] = k.transpose(1, 2)
    kernel, form = forms(module, names)
    found = kernel(q.half(), cache[:, :, :40].transpose(1, 2), v.half(), mask)
    torch.testing.assert_close(found, form(q, k, v, mask).half(), atol=4e-3, rtol=4e-3)


def test_compilers_take_it_as_one_step(module: Any) -> None:
    given, names = inputs(17, 16, 16, mask=True)
    kernel, form = forms(module, names, score=("sigmoid", {"bias": -1.0}))
    compiled = torch.compile(lambda *x: kernel(*x) * 2, backend="aot_eager", fullgraph=True)
    check(compiled, lambda *x: form(*x) * 2, given)


def test_operators_are_well_formed(module: Any) -> None:
    (q, k, v, bias), _ = inputs(17, 16, 16, bias=True)
    q, k, v, bias = (x.requires_grad_() for x in (q, k, v, bias))
    given = (q, k, v, bias.expand(2, 6, 1, 17).squeeze(2), None, None, 0.0, "softmax", 1, 0.0, 0.25)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.attend_once, given, test_utils=tests)


STEPS = """
model net {
  input x: [b, n = 1, c = 8]
  input past: [b, n = 40, c = 8]
  input there: bool[b, n_key: space = 41]
  input near: [heads = 2, n_key: space = 41]
  keys = concat([past, x], on = n)
  q = x -> linear([heads = 2, group = 2, c = 8]) as to_q
  k = keys -> linear([heads = 2, c = 8]) as to_k
  v = keys -> linear([heads = 2, c = 8]) as to_v
  output y = attend(q, k, v, over = full, mask = there, bias = near, cap = 5, sink = 0.5)
}
"""


def test_networks() -> None:
    made = archlang.loads(STEPS).architecture()
    assert "kernel decode_attention: parts of the keys side by side" in made.explain(target="triton")
    plain, fused = (made.module(seed=0, target=target) for target in ("torch", "triton"))
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(2, size, 8, generator=random) for size in (1, 40)]
    given += [torch.rand(2, 41, generator=random) > 0.5, torch.randn(2, 41, generator=random)]
    found, meant = fused(*given), plain(*given)
    torch.testing.assert_close(found, meant)
    for x in (found, meant):
        x.sum().backward()
    for (label, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=label)


def launch(kind: torch.dtype, c: int, group: int) -> None:
    """One of the configurations that `test_aot` compiles: a cache that is filled in part, with a cap and a sink."""
    module = emitted(CAPPED)
    module.runs = lambda *x: True
    q, k = torch.empty(1, 2 * group, c, dtype=kind), torch.empty(1, 1024, 2, c, dtype=kind)
    mask = torch.ones(1, 1, 1, 1024, dtype=torch.bool)
    module.triton_decode_attention(q, k, k, mask=mask, cap=5.0, sink=torch.zeros(2 * group, 1, 1))
