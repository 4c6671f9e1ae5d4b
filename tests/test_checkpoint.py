"""Weight maps: each adapter reads and writes, every mistake is found, nothing is half done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import archlang
from archlang.diagnostics import ArchError

Tensors = dict[str, torch.Tensor]


def network(entries: str, body: str = "  output y = x -> linear(6) as fc", **settings: Any) -> Any:
    head = "model net(depth: int = 3, tied: bool = false) {\n  input x: [b, c = 4]"
    return archlang.loads(f"{head}\n{body}\n  checkpoint theirs {{\n{entries}\n  }}\n}}\n").net(**settings)


def numbered(**shapes: tuple[int, ...]) -> Tensors:
    """Tensors whose elements are all different."""
    found, start = {}, 0.0
    for name, shape in shapes.items():
        count = int(torch.tensor(shape).prod())
        found[name.replace("__", ".")] = torch.arange(start, start + count).reshape(shape)
        start += count
    return found


def codes(failure: pytest.ExceptionInfo[ArchError]) -> set[str]:
    return {found.code for found in failure.value.diagnostics}


def round_trip(made: Any, theirs: Tensors, tmp_path: Path) -> Tensors:
    """Load into a module and save again: the same tensors come back. Returns what was loaded."""
    file, again = tmp_path / "theirs.safetensors", tmp_path / "again.safetensors"
    save_file(theirs, file)
    module = made.module(seed=0)
    archlang.load_weights(module, file, map="theirs")
    archlang.save_weights(module, again, map="theirs")
    saved = load_file(again)
    assert saved.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(saved[key], tensor), key
    return dict(module.state_dict())


W, B = (6, 4), (6,)
WEIGHT = "fc.weight"
ADAPTERS: list[tuple[str, Tensors, Any]] = [
    ('"a.w"', numbered(a__w=W), lambda t: t["a.w"]),
    ('rows("qkv", 1, 3)', numbered(qkv=(18, 4)), lambda t: t["qkv"][6:12]),
    ('concat(["q", "k", "v"])', numbered(q=(2, 4), k=(2, 4), v=(2, 4)), lambda t: torch.cat([t["q"], t["k"], t["v"]])),
    ('concat(["q", "k"], [5, 1])', numbered(q=(5, 4), k=(1, 4)), lambda t: torch.cat([t["q"], t["k"]])),
    ('transpose("w")', numbered(w=(4, 6)), lambda t: t["w"].T),
    ('transpose("w", [1, 0])', numbered(w=(4, 6)), lambda t: t["w"].T),
    ('reshape("w", [2, 12])', numbered(w=(2, 12)), lambda t: t["w"].reshape(6, 4)),
    ('flip("w", [0])', numbered(w=W), lambda t: t["w"].flip(0)),
    ('flip("w", [0, 1])', numbered(w=W), lambda t: t["w"].flip(0, 1)),
    ('reorder("w", [1, 2, 0], 0)', numbered(w=W), lambda t: t["w"][[2, 3, 4, 5, 0, 1]]),
    ('reorder("w", [0, 2, 1, 3], 1)', numbered(w=W), lambda t: t["w"][:, [0, 2, 1, 3]]),
    ('"w" + 1', numbered(w=W), lambda t: t["w"] + 1),
    ('"w" - 2', numbered(w=W), lambda t: t["w"] - 2),
    (
        'reshape(transpose("w", [1, 0, 2]), [3, 2, 4])',
        numbered(w=(2, 3, 4)),
        lambda t: t["w"].permute(1, 0, 2).reshape(6, 4),
    ),
    (
        'transpose(reshape(transpose("w", [2, 0, 1]), [4, 2, 3]))',
        numbered(w=(2, 3, 4)),
        lambda t: t["w"].permute(2, 0, 1).reshape(4, 6).T,
    ),
    ('transpose(concat(["q", "k"], [1, 3]))', numbered(q=(1, 6), k=(3, 6)), lambda t: torch.cat([t["q"], t["k"]]).T),
    (
        'concat([transpose("q"), flip("k", [1])], [2, 4])',
        numbered(q=(4, 2), k=(4, 4)),
        lambda t: torch.cat([t["q"].T, t["k"].flip(1)]),
    ),
    ('reshape("w", [24]) + 1', numbered(w=(24,)), lambda t: t["w"].reshape(6, 4) + 1),
]


@pytest.mark.parametrize(("adapter", "theirs", "meaning"), ADAPTERS, ids=[case[0] for case in ADAPTERS])
def test_adapters(adapter: str, theirs: Tensors, meaning: Any, tmp_path: Path):
    if adapter.startswith("rows"):
        others = " ".join(f'fc{i}.weight = rows("qkv", {i}, 3)\n' for i in (0, 2))
        body = "\n".join(f"  y{i} = x -> linear(6, bias = false) as fc{i}" for i in (0, "", 2))
        body += "\n  output z = y0 + y + y2"
        made = network(f"    fc.weight = {adapter}\n    {others}", body)
    else:
        made = network(f"    fc.weight = {adapter}", "  output y = x -> linear(6, bias = false) as fc")
    loaded = round_trip(made, theirs, tmp_path)
    assert torch.equal(loaded[WEIGHT], meaning(theirs))


def test_a_layer_with_its_leaves(tmp_path: Path):
    loaded = round_trip(network('    fc = "head.{depth}"'), numbered(head__3__weight=W, head__3__bias=B), tmp_path)
    assert loaded["fc.bias"].tolist() == [24.0, 25, 26, 27, 28, 29]


def test_labels_may_be_reserved_words(tmp_path: Path):
    body = """  x = x -> linear(4) as from
  repeat depth as block[i] { x = x -> linear(4) as in }
  output y = x"""
    entries = '    "from" = "stem"\n    "block"[i].in = "from.{i}"'
    theirs = blocks(stem="stem", **{str(i): f"from.{i}" for i in range(3)})
    loaded = round_trip(network(entries, body), theirs, tmp_path)
    assert torch.equal(loaded["block.1.in.bias"], theirs["from.1.bias"])


def test_the_empty_key_is_their_root(tmp_path: Path):
    loaded = round_trip(network('    fc = ""'), numbered(weight=W, bias=B), tmp_path)
    assert loaded["fc.bias"].tolist() == [24.0, 25, 26, 27, 28, 29]


BLOCKS = """  repeat depth as blocks[i] { x = x -> linear(4) as fc -> relu }
  output y = x -> linear(4) as head"""


def blocks(**keys: str) -> Tensors:
    return {
        f"{key}.{leaf}": torch.rand(shape)
        for key in keys.values()
        for leaf, shape in (("weight", (4, 4)), ("bias", (4,)))
    }


def test_index_variables_and_expressions(tmp_path: Path):
    entries = '    blocks[i].fc = "h.{2 * i + 1}.m{i // 2}"\n    head = "out"'
    theirs = blocks(**{str(i): f"h.{2 * i + 1}.m{i // 2}" for i in range(3)}, head="out")
    loaded = round_trip(network(entries, BLOCKS), theirs, tmp_path)
    assert torch.equal(loaded["blocks.2.fc.bias"], theirs["h.5.m1.bias"])


def test_the_longest_path_wins(tmp_path: Path):
    entries = '    blocks[i] = "b.{i}"\n    blocks[i].fc.bias = "bias.{i}"\n'
    entries += '    blocks[1].fc.weight = "special"\n    head = "out"'
    with pytest.raises(ArchError) as failure:
        network(entries.replace("blocks[1].fc.weight", "blocks[j].fc.bias"), BLOCKS).map("theirs")
    assert codes(failure) == {"A603"}
    theirs = blocks(head="out") | {f"b.{i}.fc.weight": torch.rand(4, 4) for i in (0, 2)} | {"special": torch.rand(4, 4)}
    theirs |= {f"bias.{i}": torch.rand(4) for i in range(3)}
    loaded = round_trip(network(entries, BLOCKS), theirs, tmp_path)
    assert torch.equal(loaded["blocks.1.fc.weight"], theirs["special"])


def test_none_on_either_side(tmp_path: Path):
    entries = '    fc.weight = "w"\n    fc.bias = none\n    none = "*.index"\n    none = "extra"'
    module = network(entries).module(seed=0)
    before = module.fc.bias.clone()
    archlang.load_weights(
        module, {"w": torch.ones(W), "a.b.index": torch.ones(1), "extra": torch.ones(1)}, map="theirs"
    )
    assert torch.equal(module.fc.bias, before)
    assert module.fc.weight.unique().tolist() == [1.0]
    archlang.save_weights(module, tmp_path / "w.safetensors", map="theirs")
    assert load_file(tmp_path / "w.safetensors").keys() == {"w"}


def test_what_a_setting_leaves_out():
    entries, body = '    fc = none if tied else "fc"', "  f = linear(4) as fc\n  output y = x if tied else (x -> f)"
    assert len(network(entries, body).map("theirs").reads) == 2
    assert len(network(entries, body, tied=True).map("theirs").reads) == 0


def test_without_a_map_the_names_are_ours(tmp_path: Path):
    one, other = (network('    fc = "fc"').module(seed=seed) for seed in (1, 2))
    archlang.save_weights(one, tmp_path / "w.safetensors")
    assert not torch.equal(one.fc.weight, other.fc.weight)
    archlang.load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(one.fc.weight, other.fc.weight)
    archlang.save_weights(torch.nn.Linear(2, 3), tmp_path / "plain.safetensors")
    archlang.load_weights(torch.nn.Linear(2, 3), tmp_path / "plain.safetensors", map=None)


@pytest.mark.parametrize(
    ("theirs", "code"),
    [
        ({"fc.weight": torch.ones(W)}, "A605"),
        ({"fc.weight": torch.ones(W), "fc.bias": torch.ones(5)}, "A606"),
        ({"fc.weight": torch.ones(W), "fc.bias": torch.ones(B) * 1j}, "A609"),
        ({"fc.weight": torch.ones(W), "fc.bias": torch.ones(B), "more": torch.ones(1)}, "A604"),
    ],
)
@pytest.mark.parametrize("map", [None, "theirs"])
def test_loading_is_all_or_nothing(theirs: Tensors, code: str, map: str | None):
    module = network('    fc = "fc"').module(seed=0)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(ArchError) as failure:
        archlang.load_weights(module, theirs, map=map)
    assert codes(failure) == {code}
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_what_is_left_over_without_a_map():
    theirs = {"fc.weight": torch.ones(W), "fc.bias": torch.ones(B), "more": torch.ones(1)}
    with pytest.raises(ArchError, match="the network has no `more`, which the checkpoint has"):
        archlang.load_weights(network('    fc = "fc"').module(seed=0), theirs)


def test_without_a_map_there_is_no_place_to_show():
    with pytest.raises(ArchError) as failure:
        archlang.load_weights(network('    fc = "fc"').module(seed=0), {"fc.weight": torch.ones(2, 2)})
    assert str(failure.value) == (
        "error[A605]: the checkpoint has no `fc.bias`\n\n"
        "error[A606]: `fc.weight` has the shape [6, 4], and the checkpoint gives [2, 2]"
    )


def test_what_a_checkpoint_lacks_is_one_error_for_each_entry():
    with pytest.raises(ArchError) as failure:
        network('    blocks[i] = "h.{i}"\n    head = "out"', BLOCKS).map("theirs").load({}, {})
    assert [(found.title, found.labels[0].text) for found in failure.value.diagnostics] == [
        (
            "the checkpoint has no `h.0.fc.weight`, `h.0.fc.bias`, `h.1.fc.weight`, `h.1.fc.bias` and 2 more",
            "for `blocks.0.fc.weight`, `blocks.0.fc.bias`, `blocks.1.fc.weight`, `blocks.1.fc.bias` and 2 more",
        ),
        ("the checkpoint has no `out.weight`, `out.bias`", "for `head.weight`, `head.bias`"),
    ]


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ('    fc = "fc"\n    head = "x"', "A602"),
        ('    blocks[i].fc = "h.{i}"\n    fc = "fc"', "A602"),
        ('    fc.weight = "w"', "A603"),
        ('    fc = "a"\n    fc = "b"', "A603"),
        ("    fc = 3", "A607"),
        ('    fc = rows("a")', "A607"),
        ('    fc = rows("a", 3, 3)', "A607"),
        ('    fc = concat("a")', "A607"),
        ('    fc = turn("a")', "A607"),
        ('    fc = "a.{depth / 2}"', "A607"),
        ('    fc = "a.{nothing}"', "A607"),
        ('    fc = transpose("a", "b")', "A607"),
        ('    fc = reshape("a", [0.5])', "A607"),
    ],
)
def test_wrong_maps(entries: str, code: str):
    with pytest.raises(ArchError) as failure:
        network(entries).map("theirs")
    assert codes(failure) == {code}


def test_unknown_maps():
    made = network('    fc = "fc"')
    with pytest.raises(ArchError) as failure:
        made.map("thiers")
    (found,) = failure.value.diagnostics
    assert (found.code, "theirs" in str(found.help)) == ("A601", True)
    with pytest.raises(ArchError) as failure:
        archlang.load_weights(torch.nn.Linear(2, 2), {}, map="theirs")
    assert codes(failure) == {"A601"}


def test_files_that_cannot_be_read_or_written(tmp_path: Path):
    module = network('    fc = "fc"').module(seed=0)
    (tmp_path / "bad.safetensors").write_bytes(b"not a file of tensors")
    for path in (tmp_path / "bad.safetensors", tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(ArchError) as failure:
            archlang.load_weights(module, path)
        assert codes(failure) == {"A608"}
    with pytest.raises(ArchError) as failure:
        archlang.save_weights(module, tmp_path / "bad.safetensors/no.safetensors")
    assert codes(failure) == {"A608"}


def test_all_that_is_wrong_with_a_checkpoint_is_said_at_once():
    made = network('    fc = "fc"')
    with pytest.raises(ArchError) as failure:
        archlang.load_weights(made.module(), {"fc.weight": torch.ones(2, 2), "more": torch.ones(1)}, map="theirs")
    assert codes(failure) == {"A604", "A605", "A606"}


def test_a_tensor_that_is_reshaped_has_the_shape_that_the_map_says():
    """It would be saved as another than was loaded."""
    made = network('    fc.weight = reshape("w", [2, 12])', "  output y = x -> linear(6, bias = false) as fc")
    with pytest.raises(ArchError, match=r"\[24\], not \[2, 12\]"):
        archlang.load_weights(made.module(seed=0), {"w": torch.ones(24)}, map="theirs")


def test_axes_of_size_1_are_said_with_reshape(tmp_path: Path):
    """A squeeze-and-excitation written with 1 x 1 convolutions."""
    theirs = numbered(w=(6, 4, 1, 1), b=B)
    with pytest.raises(ArchError) as failure:
        network('    fc.weight = "w"\n    fc.bias = "b"').map("theirs").load(theirs, numbered(fc__weight=W, fc__bias=B))
    (found,) = failure.value.diagnostics
    assert found.help == '`reshape("w", [6, 4, 1, 1])` is theirs in the shape of ours'
    round_trip(network('    fc.weight = reshape("w", [6, 4, 1, 1])\n    fc.bias = "b"'), theirs, tmp_path)


def test_dtypes_follow_the_module():
    """A checkpoint in half precision loads into a module in single."""
    module = network('    fc = "fc"').module(seed=0)
    archlang.load_weights(
        module, {"fc.weight": torch.ones(W).half(), "fc.bias": torch.ones(B).bfloat16()}, map="theirs"
    )
    assert module.fc.weight.dtype == torch.float32
    assert module.fc.weight.unique().tolist() == [1.0]


@pytest.mark.parametrize(
    "adapter",
    [
        'flip("a", [5])',
        'reorder("a", [1, 0], 2)',
        'reorder("a", [1, 0], "w")',
        'reorder("a", [1, 1], 0)',
        'reorder("a", [0, 1, 2, 3], 0)',
        'transpose("a", [0, 0])',
        'transpose("a", [0])',
        'reshape("a", [7, 7])',
        'concat(["a", "b"], [6])',
        'concat(["a", "b"], [1, 2])',
        "concat([])",
        'rows("a", 0, 0)',
        'rows("a", 0.5, 2)',
    ],
)
def test_adapters_that_cannot_work_say_so(adapter: str):
    """When the map is compiled or, at the latest, when it reads or writes: an error with a code, never a traceback."""
    made = network(f"    fc.weight = {adapter}", "  output y = x -> linear(6, bias = false) as fc")
    with pytest.raises(ArchError) as failure:
        made.map("theirs")
    assert codes(failure) <= {"A606", "A607"}
