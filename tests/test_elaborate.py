"""What programs mean: one small test for each rule of the language."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import archlang
from archlang.diagnostics import ArchError
from archlang.testing.networks import check_network


def architecture(lines: str, blocks: str = "", axes: str = "b, n, c = 4", **settings: Any) -> Any:
    """A model whose input is `x` and whose last line binds `y`."""
    text = f"{blocks}\nmodel net(k = 2) {{\n  input x: [{axes}]\n{lines}\n  output out = y\n}}\n"
    return archlang.loads(text).architecture(settings=settings)


def paths(network: Any) -> list[str]:
    """The paths of layers and weights, without the leaves `weight` and `bias`."""
    return list(
        dict.fromkeys(path.removesuffix(".weight").removesuffix(".bias") for path, _, _ in network.graph.weights())
    )


def labels(lines: str, blocks: str = "", **settings: Any) -> list[str]:
    network = architecture(lines, blocks, **settings)
    check_network(network, dict.fromkeys(("b", "n"), 3))
    return paths(network)


def value(expression: str) -> Any:
    """A compile-time number, through the size of an axis."""
    return architecture(f"  y = expand(x[n = 0], k = {expression})").outputs["out"].size("k")


def output(lines: str, blocks: str = "", axes: str = "b, n, c = 4") -> str:
    return str(architecture(lines, blocks, axes).outputs["out"])


def refused(lines: str, blocks: str = "", axes: str = "b, n, c = 4", **settings: Any) -> set[str]:
    with pytest.raises(ArchError) as failure:
        architecture(lines, blocks, axes, **settings)
    return {found.code for found in failure.value.diagnostics}


# ---- weights: what is shared and what is new
@pytest.mark.parametrize(
    ("lines", "made"),
    [
        ("f = linear(4)\n y = (x -> f) + (x -> relu -> f)", ["f"]),
        ("f = layer_norm -> linear(4)\n y = x -> f -> f", ["f.layer_norm", "f.linear"]),
        ("f = linear(4) as g\n y = x -> f -> f", ["g"]),
        ("y = x -> linear(4) -> linear(4)", ["linear", "linear_2"]),
        ("f = linear(4)\n repeat 3 { x = x -> f }\n y = x", ["f"]),
        ("f = mlp(2)\n y = f(x) + f(x * 2)", ["f.fc1", "f.fc2"]),
        ("y = x -> tied", ["tied.f"]),
        ("f = linear(4)\n y = x -> twice(f)", ["f"]),
        ("y = x -> twice(linear(4))", ["first", "second"]),
        ("fs = [linear(4) for i in range(2)]\n y = x -> fs[0] as a -> fs[1] as d", ["a", "d"]),
        ("f = linear(4)\n g = f\n y = (x -> f) + (x -> g)", ["f"]),
        ("y = x -> tower(linear(4), 2) as t", ["t.layers.0.inner", "t.layers.1.inner"]),
        ("f = linear(4)\n y = x -> tower(f, 2)", ["f"]),
    ],
)
def test_naming_shares_and_recipes_make(lines: str, made: list[str]):
    blocks = """
    block mlp(ratio: int)(x: [.., c]) -> [.., c] = x -> linear(c * ratio) as fc1 -> relu -> linear(c) as fc2
    block tied()(x: [.., c]) { f = linear(c)
      return (x -> f) + (x -> relu -> f) }
    block twice(f: layer)(x: [.., c]) = x -> f as first -> f as second
    block tower(f: layer, depth: int)(x: [.., c]) { repeat depth as layers[i] { x = x -> f as inner }
      return x }
    """
    assert labels(lines, blocks) == made


def test_siamese_branches_share():
    text = """model net { input a: [b, c = 4]  input d: [b, c = 4]
      f = linear(3) -> relu
      output p = a -> f
      output q = d -> f }"""
    network = archlang.loads(text.replace("  input d", "\n input d")).net()
    assert paths(network) == ["f.linear"]
    x = torch.randn(2, 4)
    p, q = network.module(seed=0)(x, x)
    assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("lines", "made"),
    [
        ("repeat 2 as blocks[i] { x = x -> linear(4) as fc }\n y = x", ["blocks.0.fc", "blocks.1.fc"]),
        ("for d in [4, 5] as ls[i] { x = x -> linear(d) }\n y = x", ["ls.0.linear", "ls.1.linear"]),
        ("y = x -> residual(linear(4) as fc)", ["fc"]),
        ("y = x -> residual(residual(linear(4) as fc))", ["fc"]),
        ("y = x -> named as outer", ["outer.fc"]),
        ("y = x -> named", ["named.fc"]),
        ("y = x -> (layer_norm -> linear(4)) as head", ["head.layer_norm", "head.linear"]),
        (
            "repeat 2 as a[i] { repeat 2 as d[j] { x = x -> linear(4) as f } }\n y = x",
            ["a.0.d.0.f", "a.0.d.1.f", "a.1.d.0.f", "a.1.d.1.f"],
        ),
        ("if k == 2 { x = x -> linear(4) as yes } else { x = x -> linear(4) as no }\n y = x", ["yes"]),
        ("y = x -> match k { 1 => linear(4) as one, 2 => linear(4) as two, _ => linear(4) as rest }", ["two"]),
        ("y = (x -> linear(4) as yes) if k == 2 else (x -> linear(4) as no)", ["yes"]),
        ("param scale: [c = 4] = ones\n y = x * scale", ["scale"]),
    ],
)
def test_paths(lines: str, made: list[str]):
    blocks = """
    use std.wiring: residual
    block named()(x: [.., c]) = x -> linear(c) as fc
    """
    assert labels(lines, blocks) == made


def test_numbered_layers_are_warned_of():
    network = architecture("  y = x -> linear(4) -> linear(4)")
    assert [warning.code for warning in network.elaborated.warnings] == ["A711"]


def test_numbered_layers_in_blocks_and_loops_are_warned_of():
    block = "block two()(x: [.., c]) = x -> linear(c) -> linear(c)"
    assert [w.code for w in architecture("  y = x -> two", block).elaborated.warnings] == ["A711"]
    loop = "  repeat 2 as ls[i] { x = x -> linear(4) -> linear(4) }\n  y = x"
    assert [w.code for w in architecture(loop).elaborated.warnings] == ["A711"]


def test_only_what_is_chosen_is_evaluated():
    assert value("8 if k == 2 else 1 / 0") == 8
    assert value("match k { 2 => 3, _ => 1 / 0 }") == 3
    assert value("1 if k == 2 or 1 / 0 == 2 else 5") == 1


# ---- calls
@pytest.mark.parametrize(
    "lines",
    [
        "y = x -> linear(6)",
        "y = linear(6)(x)",
        "y = linear(x, units = 6)",
        "f = linear(units = 6)\n y = f(x)",
        "f = relu -> linear(6)\n y = x -> f",
        "y = x -> relu -> (tanh -> linear(6))",
        "y = wide(6)(x)",
        "y = wide(dim = 6)(x = x)",
        "y = wide(x = x, dim = 6)",
        "y = x -> wide(6)",
        "f = wide(6)\n y = x -> f",
        "y = x -> through(wide(6))",
        "y = x -> through(linear(6))",
        "y = x -> through(f = relu -> linear(6))",
    ],
)
def test_ways_to_call(lines: str):
    blocks = """
    block wide(dim: int)(x: [.., c]) = x -> linear(dim)
    block through(f: layer)(x: [.., c]) = x -> f
    """
    assert output(f"  {lines}", blocks) == "[b, n, c = 6]"


def test_inputs_by_pipe_and_by_name():
    block = "block add()(x: [b, n, c], other: [b, n = m, c]) = x + mean(other, on = n)"
    assert output("  y = x -> add(other = x)", block) == "[b, n, c = 4]"
    assert output("  y = add(x, x)", block) == "[b, n, c = 4]"
    assert refused("  y = x -> add", block) == {"A301"}


def test_positions_are_all_hypers_or_all_inputs():
    block = "block f(dim: int, x2: float = 1)(x: [.., c]) = x -> linear(dim)"
    assert refused("  y = f(6, x)", block) == {"A305"}
    assert refused("  y = x -> f(6, 1, 2)", block) == {"A301"}
    assert refused("  y = x -> f(6, depth = 2)", block) == {"A302"}
    assert refused("  y = x -> f(6, dim = 2)", block) == {"A313"}


def test_defaults_over_input_axes_are_lazy():
    block = "block f(heads: int = c / 2, dim: int = heads * 3, never: int = 1 / 0)(x: [.., c]) = x -> linear(dim)"
    assert output("  y = x -> f(never = 1)", block) == "[b, n, c = 6]"
    assert output("  y = x -> f(heads = 5, never = 1)", block) == "[b, n, c = 15]"
    assert refused("  y = x -> f", block) == {"A306"}
    assert refused("  y = x -> g", "block g(p: int = q, q: int = p)(x: [.., c]) = x -> linear(p)") == {"A304"}


def test_kinds():
    block = """block f(dims: list[int], act: layer? = none, on: axis = c, flag: bool = false)(x: [.., c]) =
      x -> linear(dims[-1]) -> softmax(on = on)"""
    assert output("  y = x -> f([1, 2, 7])", block) == "[b, n, c = 7]"
    assert output("  y = x -> f([3], on = n, act = relu)", block) == "[b, n, c = 3]"
    for wrong in ("7", "[1, 0.5]", "[true]", "[1], act = 3", "[1], flag = 1", "[1], on = 2"):
        assert refused(f"  y = x -> f({wrong})", block) <= {"A303", "A207", "A206"}, wrong


def test_a_list_of_layers():
    block = "block chain(fs: list[layer])(x: [.., c]) { for f in fs as steps[i] { x = x -> f }\n return x }"
    assert labels("  y = x -> chain([linear(3), relu, linear(4)])", block) == ["steps.0.linear", "steps.2.linear"]


def test_optional_inputs():
    block = "block f()(x: [b, n, c], m: [b, n, c]?) { y = x if m == none else x + m\n return y }"
    for call in ("f(x)", "f(x, none)", "f(x, m = none)", "x -> f", "f(x, x)", "x -> f(m = x)"):
        assert output(f"  y = {call}", block) == "[b, n, c = 4]"


def test_several_results():
    block = """block f()(x: [.., c]) -> (left: [.., c = 3], right: [.., c]) {
      return x -> linear(3) as a, x -> linear(c) as d
    }"""
    assert output("  u, v = f(x)\n  y = concat([u, v], on = c)", block) == "[b, n, c = 7]"
    assert refused("  u, v, w = f(x)\n  y = u", block) == {"A310"}


# ---- axes
def test_packs():
    block = "block f()(x: [b, .., c], skip: [b, .., c = k]) = concat([x, skip], on = c)"
    assert output("  y = f(x, x[c = 0:2])", block, "b, c = 4, h, w") == "[b, c = 6, h, w]"
    other = "block f()(x: [b, ..fine, c], skip: [b, .., c = k]) = x * mean(skip, on = space)"
    assert output("  y = f(x, x -> max_pool(2))", other, "b, c = 4, h, w") == "[b, c = 4, h, w]"
    assert refused("  y = f(x, x -> max_pool(2))", block, "b, c = 4, h = 8, w") == {"A204"}


def test_unknown_sizes_are_bound():
    block = "block f()(x: [b, n = tokens, c = dim]) = x -> linear(dim * 2) -> linear([c = dim / 2])"
    assert output("  y = x -> f", block) == "[b, n, c = 2]"
    assert output("  z = x -> linear(6)\n  y = z -> linear(z.c * x.c)") == "[b, n, c = 24]"
    assert refused("  y = x -> f", "block f()(x: [b, n, c = 3]) = x") == {"A204"}
    assert refused("  y = x -> f", "block f()(x: [b, n]) = x") == {"A206"}
    assert refused("  y = x -> f", "block f()(x: [b, h, c]) = x") <= {"A205", "A206"}


@pytest.mark.parametrize(
    ("lines", "axes", "codes"),
    [
        ("y = x -> flip(on = t)", "b, t, c = 4", {"A208"}),
        ("y = x -> softmax(on = t)", "b, t, c = 4", {"A208"}),
        ("y = x + mean(x, on = t)", "b, t, c = 4", {"A212"}),
        ("y = attend(x, x, x, over = full)", "b, t, c = 4", {"A208"}),
        ("y = x + x[t = -1]", "b, t, c = 4", {"A212"}),
    ],
)
def test_time_is_causal(lines: str, axes: str, codes: set[str]):
    assert refused(f"  {lines}", axes=axes) == codes


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("y = attend(x, x, x)", "[b, t, c = 4]"),
        ("y = x -> conv(8, kernel = 3)", "[b, t, c = 8]"),
        ("y = x -> cumsum(on = t)", "[b, t, c = 4]"),
        ("y = x -> mean(on = t)", "[b, c = 4]"),
    ],
)
def test_what_time_allows(lines: str, shown: str):
    assert output(f"  {lines}", axes="b, t, c = 4") == shown


def test_a_role_said_outright():
    assert refused("  y = x -> flip(on = s)", axes="b, s: time, c = 4") == {"A208"}
    assert output("  y = x -> mean(on = space)", axes="b, s: space, c = 4") == "[b, c = 4]"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("y = x -> linear([part = 3, heads = 2, c = x.c / 2])", "[b, n, part = 3, heads = 2, c = 2]"),
        ("z = x -> linear([heads = 2, c = 3])\n y = z -> linear([c = 4], on = [heads, c])", "[b, n, c = 4]"),
        ("y = x -> linear([])", "[b, n]"),
        ('y = x -> rearrange("c -> heads c", heads = 2)', "[b, n, heads = 2, c = 2]"),
        ('y = rearrange(x, "m c -> c")', None),
        ("y = dot(x, x, on = c)", "[b, n]"),
        ("y = x * x[n = 0]", "[b, n, c = 4]"),
        ("y = x[c = 1:3]", "[b, n, c = 2]"),
        ("y = x[c = ::2]", "[b, n, c = 2]"),
        ("y = x[c = -1]", "[b, n]"),
        ("y = x[c = 1:, n = 0]", "[b, c = 3]"),
        ("u, v = split(x, [1, 3], on = c)\n y = v", "[b, n, c = 3]"),
        ("u, v = split(x, 2, on = c)\n y = v", "[b, n, c = 2]"),
        ("i, v = top_k(x, 2, on = c)\n y = v", "[b, n, c = 2]"),
        ("i, v = top_k(x, 2, on = c)\n y = x[c = i]", "[b, n, c = 2]"),
        ("i, v = top_k(x, 2, on = c)\n y = scatter(v, c = i, on = c, size = 9)", "[b, n, c = 9]"),
        ("y = rename(x, c = heads)", "[b, n, heads = 4]"),
        ("y = expand(x, m = 5)", "[b, n, c = 4, m = 5]"),
    ],
)
def test_moving_axes(lines: str, shown: str | None):
    if shown is None:
        assert refused(f"  {lines}")
        return
    network = architecture(f"  {lines}")
    made = network.outputs["out"]
    assert {str(axis) for axis in made} == set(shown.strip("[]").split(", ")), str(made)
    check_network(network, {"b": 2, "n": 3})


def test_strided_slices_of_free_axes():
    """Patch merging as papers write it."""
    network = architecture(
        "  y = concat([x[h = i::2, w = j::2] for i, j in zip([0, 1, 0, 1], [0, 0, 1, 1])], on = c)",
        axes="b, h, w, c = 3",
    )
    check_network(network, {"b": 2, "h": 4, "w": 6})
    assert {str(condition) for condition in network.conditions} == {"h % 2 == 0", "w % 2 == 0"}


@pytest.mark.parametrize("lines", ["y = v", "y = x[c = i]", "y = x[c = i] * v"])
def test_top_k_gives_index_and_value(lines: str):
    """Each under its name, whichever is used; torch has them the other way round."""
    network = architecture(f"  i, v = top_k(x, 2, on = c)\n  j, u = top_k(x * 2, 3, on = c)\n  {lines}")
    module = check_network(network, {"b": 2, "n": 3})
    exported = torch.export.export(module, (torch.randn(2, 3, 4, dtype=torch.float64),)).module()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(exported(x), module(x))


def test_one_definition_for_all_ranks():
    block = "block f()(x: [b, .., c]) = x -> conv(6, kernel = 3, stride = 2) -> batch_norm -> relu -> mean(on = space)"
    for axes in ("b, n, c = 4", "b, h, w, c = 4", "b, d, h, w, c = 4"):
        network = architecture("  y = x -> f", block, axes)
        assert str(network.outputs["out"]) == "[b, c = 6]"
        check_network(network, {name: 2 if name == "b" else 5 for name in axes.replace(" = 4", "").split(", ")[:-1]})


# ---- names
@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ("k = 3\n y = x", {"A104"}),
        ("n = 3\n y = x", {"A104"}),
        ("f = linear(4)\n f = 3\n y = x", {"A105"}),
        ("z = x\n z = 3\n y = x", {"A105"}),
        ("y = nothing", {"A101"}),
        ("repeat 2 { z = x }\n y = z", {"A101"}),
        ("repeat 2 { x = x -> linear(4) }\n y = x", {"A703"}),
        ("y = x -> linear(4) as f -> linear(4) as f", {"A702"}),
    ],
)
def test_one_name_one_thing(lines: str, codes: set[str]):
    assert refused(f"  {lines}") == codes


def test_none_and_numbers_become_tensors():
    assert output("  kv = none\n  repeat 2 { kv = x if kv == none else kv + x }\n  y = kv") == "[b, n, c = 4]"
    assert output("  total = 0\n  for z in [x, x] { total = total + z }\n  y = total") == "[b, n, c = 4]"


@pytest.mark.parametrize(
    "lines",
    [
        "  y = x -> user(table)",
        "  repeat 2 as layers { x = x -> user(table) }\n  y = x",
        "  repeat 2 as layers {\n    x = x -> linear(4) as k\n    x = x -> user(table)\n  }\n  y = x",
        "  repeat 2 as outer { repeat 2 as inner { x = x -> user(table) } }\n  y = x",
    ],
)
def test_what_a_block_borrows_comes_before_it(lines: str):
    user = "block user(table)(x: [b, n, c]) -> [b, n, c] {\n  y = x -> linear(4) as fc\n  return y + (y -> table)\n}"
    network = architecture(f"  table = linear(4)\n{lines}", user)
    paths = [path for path, _, _ in network.graph.weights()]
    assert paths == list(network.module().state_dict()) == list(network.module(purpose="inference").state_dict())


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        ("minimum(0.2, x)", lambda x: x.clamp(max=0.2)),
        ("maximum(x, 0.2)", lambda x: x.clamp(min=0.2)),
        ("sub(2, x)", lambda x: 2 - x),
        ("sub(x, 2)", lambda x: x - 2),
        ("pow(2, x)", lambda x: 2**x),
        ("div(x, 4)", lambda x: x / 4),
        ("where(x > 0, 1.0, x)", lambda x: torch.where(x > 0, 1.0, x)),
    ],
)
def test_operators_as_functions_take_numbers_on_either_side(call: str, meant: Any):
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(architecture(f"  y = {call}").module()(x), meant(x))


def test_loops_carry_lists_of_tensors():
    lines = """  skips = []
  repeat 3 as down[i] {
    skips = skips + [x]
    x = x -> linear(4 + i) as fc
  }
  for skip in reverse(skips) as up[i] { x = concat([x, skip], on = c) -> linear(4) as fc }
  y = x"""
    assert labels(lines) == [f"{way}.{i}.fc" for way in ("down", "up") for i in range(3)]


def test_prelude_names_may_be_hidden():
    assert output("  y = x -> relu", "block relu()(x: [.., c]) = x -> linear(9)") == "[b, n, c = 9]"


# ---- numbers
@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("1 / 3 * 3", 1),
        ("sqrt(16)", 4),
        ("sqrt(1 / 4) * 2", 1),
        ("log2(64)", 6),
        ("log2(1 / 8) + 4", 1),
        ("log2(56 / 7)", 3),
        ("round_up(100, 64)", 128),
        ("round_up(128, 64)", 128),
        ("7 // 2", 3),
        ("0 - (-7 // 2)", 4),
        ("-7 % 4", 1),
        ("2 ** 10", 1024),
        ("0.1 * 30", 3),
        ("2k", 2000),
        ("1Ki", 1024),
        ("1.5k", 1500),
        ("0.3 / 0.1", 3),
        ("max(3, 5, 4)", 5),
        ("min([3, 5])", 3),
        ("sum([1, 2, 3])", 6),
        ("len(range(5))", 5),
        ("ceil(7 / 2)", 4),
        ("floor(7 / 2)", 3),
        ("round(2.5)", 3),
        ("abs(-3)", 3),
        ("product([2, 3, 4])", 24),
        ("linspace(0, 1, 5)[2] * 4", 2),
        ("[4, 5, 6][-1]", 6),
        ("sum([4, 5, 6][1:])", 11),
        ("sum([i * i for i in range(4)])", 14),
        ("sum([a * d for a, d in zip([1, 2], [3, 4])])", 11),
        ("x.c * k", 8),
        ("x.c ** 2", 16),
        ("8 if 1 / 3 == 2 / 6 else 9", 8),
        ("3 if 2 in [1, 2] else 4", 3),
        ("sum([i for i, v in enumerate([7, 7, 7])])", 3),
    ],
)
def test_numbers_are_exact(expression: str, number: int):
    assert value(expression) == number


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("x.c / 3", "A207"),
        ("1 / 0", "A306"),
        ("sqrt(2)", "A207"),
        ("0", "A216"),
        ("-2", "A216"),
        ("[1][3]", "A312"),
        ("9 ** 9 ** 9", "A815"),
    ],
)
def test_numbers_that_are_no_sizes(expression: str, code: str):
    assert refused(f"  y = expand(x, k2 = {expression})") == {code}


# ---- settings and variants
SIZED = """
model net(dims = [4, 8], depth: int = 2, rate: float = 0.5, name: str = "a", act: layer = relu) {
  input x: [b, c = 4]
  repeat depth as ls[i] { x = x -> linear(dims[-1]) -> act -> dropout(rate) }
  output out = x
  variant wide { dims = [4, 16] }
  variant deep of wide { depth = 3, act = tanh }
}
"""


def test_variants_start_from_others():
    program = archlang.loads(SIZED)
    assert program.variants("net") == ["wide", "deep"]
    assert str(program.net(variant="deep").outputs["out"]) == "[b, c = 16]"
    assert len(paths(program.net(variant="deep"))) == 3
    assert len(paths(program.net(variant="deep", depth=1))) == 1


def test_settings_from_python_and_from_text():
    program = archlang.loads(SIZED)
    assert str(program.net(dims=[4, 5]).outputs["out"]) == "[b, c = 5]"
    text = program.architecture(set_texts=["dims=[4, 2 * 3]", "act=gelu", "rate=1/4"])
    assert str(text.outputs["out"]) == "[b, c = 6]"
    assert text.elaborated.settings["rate"] == Fraction(1, 4)
    assert program.net(rate=0.1).elaborated.settings["rate"] == Fraction(1, 10)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"width": 3}, "A502"),
        ({"depth": "x"}, "A303"),
        ({"depth": 1.5}, "A207"),
        ({"dims": {}}, "A505"),
        ({"depth": object()}, "A505"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], code: str):
    with pytest.raises(ArchError) as failure:
        archlang.loads(SIZED).net(**settings)
    assert [d.code for d in failure.value.diagnostics] == [code]


def test_unknown_variant():
    with pytest.raises(ArchError) as failure:
        archlang.loads(SIZED).net(variant="wider")
    (found,) = failure.value.diagnostics
    assert (found.code, "wide" in str(found.help)) == ("A503", True)


# ---- files
def test_use_relative(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/stem.arch").write_text(
        'use "./inner.arch": inner\nblock stem()(x: [.., c]) = x -> inner -> inner as again\n'
    )
    (tmp_path / "parts/inner.arch").write_text("block inner()(x: [.., c]) = x -> linear(c) as fc\n")
    main = tmp_path / "net.arch"
    main.write_text('use "./parts/stem.arch": stem\nmodel net { input x: [b, c = 4]\n output y = x -> stem }\n')
    assert paths(archlang.load(main).net()) == ["stem.inner.fc", "stem.again.fc"]
    shutil.rmtree(tmp_path / "parts")
    with pytest.raises(ArchError) as failure:
        archlang.load(main)
    assert failure.value.diagnostics[0].code == "A401"


FOREIGN = """
foreign double from python "twice:double" (x: [b, n, c]) -> [b, n, c]
model net { input x: [b, n, c = 4]
  output y = x -> linear(3) -> double }
"""


def test_foreign_operations_run_with_permission_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network = archlang.loads(FOREIGN).net()
    assert str(network.outputs["y"]) == "[b, n, c = 3]"
    (tmp_path / "twice.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArchError):
        network.module()
    module = network.module(seed=0, allow_python=["twice"])
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(module(x), 2 * module.linear(x))
