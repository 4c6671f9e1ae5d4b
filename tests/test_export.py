"""Free sizes: their conditions are collected, simplified, asserted once and handed to `torch.export`."""

from typing import Any

import pytest
import torch
import torch._dynamo.testing

import archlang
from archlang.testing.networks import check_network, random_inputs

BLOCKS = """
block halve()(x: [b, .., c]) = x -> conv(c, kernel = 3, stride = 2) -> relu
block down_up(depth: int)(x: [b, .., c]) {
  skips = []
  repeat depth as down[i] {
    skips = skips + [x]
    x = x -> avg_pool(2) -> conv(c, kernel = 3) as conv
  }
  for skip in reverse(skips) as up[i] { x = (x -> conv_transpose(c, kernel = 2, stride = 2) as rise) + skip }
  return x
}
"""


def network(lines: str, axes: str) -> Any:
    return archlang.loads(f"{BLOCKS}model net {{\n  input x: [{axes}]\n{lines}\n  output y = z\n}}\n").net()


CASES: list[tuple[str, str, list[str], list[dict[str, int]]]] = [
    (
        "  z = x -> linear(3) -> softmax(on = c)",
        "b, n, c = 4",
        [],
        [{"b": 2, "n": 5}, {"b": 3, "n": 8}, {"b": 4, "n": 2}],
    ),
    ("  z = attend(x, x, x) -> cumsum(on = t)", "b, t, c = 4", [], [{"b": 2, "t": 5}, {"b": 3, "t": 9}]),
    (
        "  z = x -> down_up(3)",
        "b, c = 4, h, w",
        ["h % 8 == 0", "w % 8 == 0"],
        [{"b": 2, "h": 16, "w": 24}, {"b": 3, "h": 32, "w": 16}],
    ),
    ("  z = x -> down_up(2)", "b, c = 4, n", ["n % 4 == 0"], [{"b": 2, "n": 16}, {"b": 3, "n": 24}]),
    (
        "  z = x -> down_up(1)",
        "b, c = 4, d, h, w",
        ["d % 2 == 0", "h % 2 == 0", "w % 2 == 0"],
        [{"b": 2, "d": 6, "h": 8, "w": 10}, {"b": 3, "d": 8, "h": 6, "w": 10}],
    ),
    (
        '  require x.h % 32 == 0 and x.w % 32 == 0, "big"\n  z = x -> halve -> halve as again -> mean(on = space)',
        "b, c = 4, h, w",
        ["h % 32 == 0", "w % 32 == 0"],
        [{"b": 2, "h": 96, "w": 64}, {"b": 3, "h": 64, "w": 128}],
    ),
    (
        '  z = x -> conv(4, kernel = 7, padding = "valid")',
        "b, c = 4, h, w",
        ["7 <= h", "7 <= w"],
        [{"b": 2, "h": 10, "w": 9}, {"b": 3, "h": 12, "w": 8}],
    ),
    (
        "  z = x -> halve -> halve as again",
        "b, c = 4, h, w",
        [],
        [{"b": 2, "h": 7, "w": 9}, {"b": 3, "h": 12, "w": 31}],
    ),
    (
        '  z = x -> rearrange("h -> h p, w -> w q, p q c -> c", p = 4, q = 4) -> linear(2)',
        "b, h, w, c = 3",
        ["h % 4 == 0", "w % 4 == 0"],
        [{"b": 2, "h": 8, "w": 12}, {"b": 3, "h": 16, "w": 8}],
    ),
    (
        "  z = x -> space_to_depth(2) -> linear(3)",
        "b, h, w, c = 3",
        ["h % 2 == 0", "w % 2 == 0"],
        [{"b": 2, "h": 4, "w": 6}, {"b": 3, "h": 8, "w": 4}],
    ),
    (
        "  z = attend(x, x, x, over = windows(4))",
        "b, h, w, heads = 2, c = 4",
        ["h % 4 == 0", "w % 4 == 0"],
        [{"b": 5, "h": 8, "w": 12}, {"b": 3, "h": 16, "w": 8}],
    ),
]


@pytest.mark.parametrize(
    ("lines", "axes", "conditions", "sizes"),
    CASES,
    ids=[f"{c[1]}: {c[0].split('->', 1)[-1].strip()[:30]}" for c in CASES],
)
class TestFreeSizes:
    def test_conditions(self, lines: str, axes: str, conditions: list[str], sizes: list[dict[str, int]]):
        """As text; each is asserted in `forward` once."""
        made = network(lines, axes)
        assert sorted(map(str, made.conditions)) == sorted(conditions)
        assert made.source().count("raise ValueError") == 1 + len(conditions)

    def test_means_the_same_at_all_sizes(
        self, lines: str, axes: str, conditions: list[str], sizes: list[dict[str, int]]
    ):
        made = network(lines, axes)
        for at in sizes:
            check_network(made, at)

    def test_export(self, lines: str, axes: str, conditions: list[str], sizes: list[dict[str, int]]):
        """Exported at one size, it runs at the others."""
        made = network(lines, axes)
        module = made.module(seed=0).double().eval()
        inputs = [tuple(random_inputs(made, at).values()) for at in sizes]
        exported = torch.export.export(module, inputs[0], dynamic_shapes=made.dynamic_shapes()).module()
        for given in inputs:
            torch.testing.assert_close(exported(*given), module(*given))

    def test_compile(self, lines: str, axes: str, conditions: list[str], sizes: list[dict[str, int]]):
        """One graph without breaks, traced once for all sizes (which torch ties where they are equal at first)."""
        made = network(lines, axes)
        module = made.module(seed=0).double().eval()
        torch._dynamo.reset()
        counter = torch._dynamo.testing.CompileCounter()
        compiled = torch.compile(module, backend=counter, fullgraph=True, dynamic=True)
        for at in sizes:
            (x,) = random_inputs(made, at).values()
            torch.testing.assert_close(compiled(x), module(x))
        assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("lines", "axes", "shape", "message"),
    [
        ("  z = x -> down_up(3)", "b, c = 4, h, w", (1, 4, 16, 20), "w must be a multiple of 8, and w = 20"),
        (
            '  require x.h % 32 == 0, "five halvings"\n  z = x',
            "b, c = 4, h, w",
            (1, 4, 40, 32),
            "five halvings.*h = 40",
        ),
        (
            '  z = x -> conv(4, kernel = 7, padding = "valid")',
            "b, c = 4, h, w",
            (1, 4, 7, 6),
            "w >= 7 must hold, and w = 6",
        ),
        ("  z = x", "b, c = 4, h, w", (1, 3, 8, 8), r"x must be \[b, c = 4, h, w\], and is \[1, 3, 8, 8\]"),
        ("  z = x", "b, c = 4, h, w", (1, 4, 8), r"x must be \[b, c = 4, h, w\]"),
        ("  z = x", "b, c = 4, h = n, w = n", (1, 4, 8, 9), "n"),
    ],
)
def test_messages_in_the_terms_of_the_model(lines: str, axes: str, shape: tuple[int, ...], message: str):
    module = network(lines, axes).module(seed=0)
    with pytest.raises(ValueError, match=message):
        module(torch.zeros(shape))


def test_dims_have_bounds_and_divisors():
    shapes = network("  z = x -> down_up(3)", "b, c = 4, h, w").dynamic_shapes()["x"]
    assert sorted(shapes) == [0, 2, 3]
    assert str(shapes[2]).replace(" ", "").startswith("8*h_8") or "8*h_8" in str(shapes[2])
    bounds = network('  z = x -> conv(4, kernel = 7, padding = "valid")', "b, c = 4, h, w").dynamic_shapes()["x"]
    assert bounds[2].min == 8  # 7 would make an axis of 1, which torch takes for a constant


def test_inputs_that_share_a_size_share_a_dim():
    text = "model net {\n  input x: [b, n, c = 4]\n  input m: [b, n, c = 4]\n  output y = x * m\n}\n"
    made = archlang.loads(text).net()
    shapes = made.dynamic_shapes()
    assert shapes["x"][1] is shapes["m"][1]
    module = made.module()
    with pytest.raises(ValueError, match="n"):
        module(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4))
    exported = torch.export.export(module, (torch.ones(2, 3, 4), torch.ones(2, 3, 4)), dynamic_shapes=shapes).module()
    assert exported(torch.ones(4, 6, 4), torch.ones(4, 6, 4)).shape == (4, 6, 4)


def test_impossible_conditions_are_errors_of_the_text():
    with pytest.raises(archlang.ArchError) as failure:
        network("  require x.h < 1\n  z = x", "b, c = 4, h, w")
    assert failure.value.diagnostics[0].code == "A316"


def test_quotients_of_free_sizes():
    """`h / w` is whole only where w divides h."""
    made = network("  z = expand(x, k = x.h / x.w)", "b, c = 4, h, w")
    assert [str(condition) for condition in made.conditions] == ["h % w == 0"]
    check_network(made, {"b": 1, "h": 6, "w": 3})
    with pytest.raises(ValueError, match="h must be a multiple of w"):
        made.module()(torch.zeros(1, 4, 6, 4))


@pytest.mark.parametrize("window", [3, 128])
def test_tiles_of_a_free_time(window: int):
    """Exported from a text that is one tile, or several: it serves both."""
    made = archlang.loads(
        f"""model net {{
  input x: [b, t, c = 8]
  q = x -> linear([heads = 2, c = 4]) as q
  output y = attend(q, q, q, over = causal & sliding({window}))
}}"""
    ).architecture()
    module = made.module(seed=0).eval()
    exported = torch.export.export(module, (torch.ones(2, 7, 8),), dynamic_shapes=made.dynamic_shapes()).module()
    for length in (2, 7, 200):
        x = torch.randn(3, length, 8, generator=torch.Generator().manual_seed(length))
        torch.testing.assert_close(exported(x), module(x))


def test_a_state_that_is_handed_on():
    """Exported from a text of a few positions, it serves any; the last state is that of the last position."""
    made = archlang.loads(
        """model net {
  input x: [b, t, c = 8]
  input before: [b, c = 8, c_value = 8]
  y, S = linear_recurrence(x, l2_norm(x), x, decay = 0.9 * sigmoid(x), start = before, final = true)
  output out = y
  output after = S
}"""
    ).architecture()
    module, start = made.module().eval(), torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = torch.ones(2, 7, 8), torch.ones(2, 8, 8)
    exported = torch.export.export(module, given, dynamic_shapes=made.dynamic_shapes()).module()
    for length in (2, 32, 100):
        x = torch.randn(3, length, 8, generator=torch.Generator().manual_seed(length))
        torch.testing.assert_close(exported(x, start), module(x, start))
