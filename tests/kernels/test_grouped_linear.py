"""Linear layers of all experts at once."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted
from tests.kernels.test_combine import NET

SHAPES = [  # rows of each expert, those of none, channels, units, and more
    ([1], 0, 1, 1, {}),
    ([5, 0, 12], 0, 17, 63, {}),
    ([33, 1, 29], 3, 64, 100, {"bias": False}),
    ([0, 0], 4, 8, 8, {}),
    ([64, 36], 0, 16, 24, {"kind": torch.float16}),
    ([3, 4], 2, 16, 24, {"kind": torch.bfloat16}),
    ([2, 3], 1, 8, 5, {"inner": 3}),
    ([*range(9), *[0, 1] * 20, 3], 2, 8, 5, {}),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(counts: list[int], none: int, c: int, units: int, bias: bool = True, inner: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    rows, experts = sum(counts) + none, len(counts)
    shapes = [(rows, *([inner] if inner else []), c), *[(units, c)] * experts, *[(units,)] * (experts if bias else 0)]
    return [torch.randn(shape, generator=random) for shape in shapes]


def forms(module: Any, counts: list[int]) -> list[Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    ends, count = torch.tensor(counts).cumsum(0), len(counts)

    def form(function: Any) -> Any:
        return lambda x, *given: function(x, ends, given[:count], given[count:])

    return [form(f) for f in (module.triton_grouped_linear, module.grouped_linear)]


@pytest.mark.parametrize(("counts", "none", "c", "units", "options"), SHAPES, ids=str)
def test_grouped(module: Any, counts: list[int], none: int, c: int, units: int, options: dict[str, Any]) -> None:
    more = {name: value for name, value in options.items() if name != "kind"}
    kind = options.get("kind", torch.float32)
    check(*forms(module, counts), inputs(counts, none, c, units, **more), kind)


CHOICES = [  # tokens, choices of each, experts, channels, units, rows of a token
    (1, 1, 1, 1, 1, 0),
    (17, 2, 4, 17, 63, 0),
    (63, 1, 3, 16, 8, 0),
    (32, 3, 5, 64, 100, 0),
    (5, 2, 3, 8, 5, 3),
]


def choices(module: Any, tokens: int, count: int, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sorted choices of tokens, each of several experts; some choices are of none."""
    index = torch.rand(tokens, experts + 1, generator=torch.Generator().manual_seed(0)).argsort(1)[:, :count]
    return module.sorted_choices(index, experts)


@pytest.mark.parametrize(("tokens", "count", "experts", "c", "units", "inner"), CHOICES)
def test_rows_are_read_at_their_tokens(
    module: Any, tokens: int, count: int, experts: int, c: int, units: int, inner: int
) -> None:
    ends, order = choices(module, tokens, count, experts)
    given = inputs([tokens], 0, c, units, inner=inner)[:1] + inputs([0] * experts, 0, c, units)[1:]

    def form(function: Any) -> Any:
        return lambda x, *given: function(x, ends, given[:experts], given[experts:], order=order)

    check(form(module.triton_grouped_linear), form(module.grouped_linear), given)


def test_rows_of_none_are_0(module: Any) -> None:
    kernel, _ = forms(module, [2, 1])
    assert not kernel(*inputs([2, 1], 4, 8, 8))[3:].any()


def test_addresses_are_written_once(module: Any) -> None:
    first, second = inputs([1], 0, 4, 4)[1:], inputs([1], 0, 4, 4)[1:]
    assert module.grouped_table(first) is module.grouped_table(first)
    assert module.grouped_table(first).tolist() == [x.data_ptr() for x in first]
    assert module.grouped_table(second).tolist() == [x.data_ptr() for x in second]


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, [3, 2])
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs([3, 2], 1, 8, 8))


def test_operators_are_well_formed(module: Any) -> None:
    x, *given = (x.requires_grad_() for x in inputs([3, 2], 1, 8, 8))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    given = given[:2], given[2:]
    torch.library.opcheck(module.grouped_products, (x[:, None], torch.tensor([3, 5]), *given, None), test_utils=tests)
    order = torch.tensor([3, 0, 1, 5, 4, 2, 6, 7, 8, 9, 10, 11])
    torch.library.opcheck(module.grouped_products, (x[:, None], torch.tensor([3, 5]), *given, order), test_utils=tests)


def test_what_it_takes() -> None:
    block = "block normed()(x: [.., c]) -> [.., c] { return x -> layer_norm as norm -> linear(c) as fc }"
    text = block + NET.replace("mlp(ratio = 2)", "normed")
    assert "the layers of an expert are more than linear" in archlang.loads(text).net().explain(target="triton")
    said = archlang.loads(NET).net().explain(target="triton")
    assert said.count("kernel grouped_linear: the layers of all experts in one product, weights where they lie") == 1
    assert "grouped" not in archlang.loads(NET).net().explain()


def launch(kind: torch.dtype, c: int, units: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    x, ends = torch.empty(1024, c, dtype=kind, requires_grad=True), torch.tensor([400, 1024])
    weights, biases = ([torch.empty(shape, dtype=kind) for _ in range(2)] for shape in ((units, c), (units,)))
    module.triton_grouped_linear(x, ends, weights, biases).sum().backward()
