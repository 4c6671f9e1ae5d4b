"""Routers of experts."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted

NET = """
use std.ffn: mlp
use std.moe: moe, top_sigmoid
model net(dim: int = 8) {
  input x: [b, t, c = dim]
  y = x -> moe(mlp(ratio = 2), experts = 4) as first
  output z = y -> moe(mlp(ratio = 2), experts = 4, router = top_sigmoid) as second
}
"""
LIMITED = """
block limited(experts: int, top: int, groups: int, kept: int, best: int)(x: [.., c]) {
  score = x -> linear([route = experts], bias = false) as gate -> SCORE
  BIAS
  choice = (score ADDED) -> rearrange("route -> group route", group = groups)
  place, largest = choice -> top_k(best, on = route)
  found, sums = WORTH -> top_k(kept, on = group)
  open = rename(found, group = pick) -> one_hot(axis = group, size = groups) -> sum(on = pick)
  among = where(open > 0, choice, -inf) -> rearrange("group route -> route")
  index, worth = among -> top_k(top, on = route)
  return index, score[route = index]
}
model net {
  input x: [b, t, c = 8]
  index, weight = x -> limited(EXPERTS, 3, 4, 2, 2) as router
  output y = weight
  output z = index
}
"""


def limited(worth: str = "sum(largest, on = route)", experts: int = 12, bias: bool = True) -> str:
    """The router of DeepSeek-V3, or with `max(choice, on = route)` and without a bias that of DeepSeek-V2."""
    words = {"SCORE": "sigmoid" if bias else "softmax(on = route)", "WORTH": worth, "EXPERTS": str(experts)}
    words |= {"BIAS": "buffer bias: [route = experts] = 0" if bias else "", "ADDED": "+ bias" if bias else ""}
    text = LIMITED
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text


SHAPES = [(1, 1, 1), (17, 5, 2), (63, 64, 8), (64, 17, 17), (100, 128, 3)]  # rows, experts, and how many are chosen
SCORES, WEIGHTS = ("softmax", "sigmoid", "none"), ("share", "softmax", "none")


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(rows: int, experts: int, bias: bool = False) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, experts, generator=random)
    return [logits, torch.randn(experts, generator=random)] if bias else [logits]


def forms(module: Any, k: int, score: str, weights: str, scored: bool = False, groups: Any = None) -> list[Any]:
    """Both forms as functions of logits and a bias, the numbers that they give side by side; slopes of a bias are 0."""

    def form(function: Any) -> Any:
        def call(logits: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
            index, *made = function(logits, k, score, weights, None if bias is None else bias.detach(), scored, groups)
            y = torch.cat([*made, index.to(logits.dtype)], -1)
            return y if bias is None else y + 0 * bias.sum()

        return call

    return [form(f) for f in (module.triton_top_k_routing, module.top_k_routing)]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("rows", "experts", "k"), SHAPES[:2])
def test_routes(module: Any, rows: int, experts: int, k: int, score: str, weights: str) -> None:
    given = inputs(rows, experts)
    given[0] = given[0].abs() + 0.1  # shares of logits themselves are of numbers above 0
    check(*forms(module, k, score, weights), given)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("score", SCORES[:2])
@pytest.mark.parametrize(("rows", "experts", "k"), SHAPES[2:])
def test_more_experts(module: Any, rows: int, experts: int, k: int, score: str, bias: bool) -> None:
    check(*forms(module, k, score, "share", scored=True), inputs(rows, experts, bias))


@pytest.fixture(scope="module")
def limits() -> Any:
    return emitted(limited())


@pytest.mark.parametrize(
    ("rows", "experts", "k", "groups"),
    [(1, 1, 1, (1, 1, 1)), (17, 60, 4, (3, 2, 2)), (63, 64, 8, (8, 4, 2)), (64, 100, 5, (5, 1, 3)), (100, 16, 4, (8, 3, 1))],
)  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_experts_of_the_best_groups(limits: Any, rows: int, experts: int, k: int, groups: Any, bias: bool) -> None:
    check(*forms(limits, k, "sigmoid", "share", scored=True, groups=groups), inputs(rows, experts, bias))
    index, *_ = limits.triton_top_k_routing(*inputs(rows, experts), k, groups=groups)
    assert all(len({place // (experts // groups[0]) for place in row}) <= groups[1] for row in index.tolist())


@pytest.mark.parametrize("worth", ["sum(largest, on = route)", "max(choice, on = route)"])
@pytest.mark.parametrize("bias", [False, True])
def test_networks_with_groups(worth: str, bias: bool) -> None:
    made = archlang.loads(limited(worth, bias=bias)).net()
    assert f"groups=(4, 2, {2 if 'sum' in worth else 1})" in made.source("triton")
    plain, fused = (made.module(seed=0, target=target) for target in ("torch", "triton"))
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
    if bias:
        for module in (plain, fused):
            module.router.bias.copy_(torch.linspace(-0.2, 0.2, 12).roll(5))
    (y, z), (meant, places) = fused(x), plain(x)
    assert z.equal(places)
    torch.testing.assert_close(y, meant)


@pytest.mark.parametrize(
    "change",
    [("open > 0", "open > 1"), ("-inf", "0"), ("group route -> route", "route group -> route"), ("12, 3, 4, 2", "12, 7, 4, 2"),
     ("return index", "loss seen = mean(sums, on = all)\n  return index"), ("sum(largest", "sum(cast(place, float)")],
)  # fmt: skip
def test_what_is_like_groups_is_left(change: tuple[str, str]) -> None:
    text = limited().replace(*change)
    assert text != limited() and "groups=(" not in archlang.loads(text).net().source("triton")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    logits = torch.linspace(-2, 2, 16).repeat(20, 1).roll(3, 1)
    check(*forms(module, 4, "softmax", "share", scored=True), [logits], kind)


def test_experts_that_are_ruled_out(module: Any) -> None:
    """Each is chosen once, the one of -inf too."""
    logits = torch.tensor([[float("-inf"), 1.0, float("-inf"), 0.5]])
    index, weight = module.triton_top_k_routing(logits, 4, "none", "softmax")
    assert index.tolist() == [[1, 3, 0, 2]]
    assert weight[0, 2:].tolist() == [0.0, 0.0]


def test_the_scores_alone_have_a_slope(module: Any) -> None:
    kernel, form = (lambda x, f=f: f(x, 2, "softmax", "share", None, True)[2] for f in (module.triton_top_k_routing, module.top_k_routing))  # fmt: skip
    check(kernel, form, inputs(9, 6))


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, 2, "sigmoid", "share")
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(9, 6))


def test_operators_are_well_formed(limits: Any) -> None:
    logits, bias = inputs(9, 6, bias=True)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    for scored in (False, True):
        call = logits.requires_grad_(), bias, 2, "softmax", "share", scored, [3, 2, 1]
        torch.library.opcheck(limits.route, call, test_utils=tests)


def test_what_it_takes() -> None:
    said = archlang.loads(NET).net().explain(target="triton")
    assert said.count("kernel top_k_routing: scores, the largest of them and their weights in one pass") == 2
    text = (
        "model net {\n  input x: [b, c = 2000]\n  y = softmax(x, on = c)\n  output i, output v = top_k(y, 2, on = c)\n}"
    )
    text = text.replace("output i, output v", "i, v").replace("\n}", "\n  output z = v\n}")
    assert "no kernel: there are more than 1024 experts" in archlang.loads(text).net().explain(target="triton")


def launch(kind: torch.dtype, experts: int, k: int, score: str, weights: str, groups: Any = None) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(limited() if groups else NET)
    module.runs = lambda *x: True
    logits = torch.empty(4096, experts, dtype=kind, requires_grad=True)
    bias = torch.empty(experts) if score == "sigmoid" else None
    module.triton_top_k_routing(logits, k, score, weights, bias, score == "softmax", *([groups] if groups else []))[
        1
    ].sum().backward()
