"""Cutting, joining, naming, padding and rearranging axes: emitted equals meant; sizes, conditions and refusals."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.emit.torch import emit
from archlang.facts import Facts
from archlang.ir import Graph
from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType, axis
from archlang.sizes import substitute, symbol
from archlang.testing.interpret import concrete
from archlang.testing.laws import check_emitted, check_law, single
from archlang.testing.strategies import tensor, tensor_types


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


def infer(name: str, *types: Any, facts: Facts | None = None, **fields: object) -> Any:
    return op(name, **fields).infer(facts or Facts(), *types)


def line(operation: Primitive, *types: TensorType) -> str:
    """The expression that `forward` returns."""
    graph, _ = single(operation, types)
    return next(
        line.strip().removeprefix("return ") for line in emit(graph).splitlines() if line.strip().startswith("return")
    )


# ---- rearrange
@pytest.mark.parametrize(
    ("pattern", "sizes", "x", "made"),
    [
        (
            "h -> h p, w -> w q, p q -> n",
            {"p": 7, "q": 7},
            tensor(b="b", h=14, w=7, c=3),
            {"b": "b", "h": 2, "w": 1, "n": 49, "c": 3},
        ),
        ("n -> h w", {"h": 3}, tensor(b=2, n=12), {"b": 2, "h": 3, "w": 4}),
        (
            "c -> p q c, h p -> h, w q -> w",
            {"p": 2, "q": 3},
            tensor(b="b", h=4, w=5, c=12),
            {"b": "b", "h": 8, "w": 15, "c": 2},
        ),
        ("h w -> n", {}, tensor(b="b", c=2, h=3, w=4), {"b": "b", "c": 2, "n": 12}),
        ("heads c -> c", {}, tensor(b="b", heads=2, n=3, c=4), {"b": "b", "n": 3, "c": 8}),
        ("c -> heads c", {"heads": 2}, tensor(b="b", n=3, c=8), {"b": "b", "n": 3, "heads": 2, "c": 4}),
        (
            "n -> h w, c -> p q c, h p -> h, w q -> w",
            {"h": 2, "p": 2, "q": 2},
            tensor(b="b", n=6, c=12),
            {"b": "b", "h": 4, "w": 6, "c": 3},
        ),
        ("h w -> n, n -> w h", {"h": 6}, tensor(h=3, w=4), {"w": 2, "h": 6}),
        ("h w -> w p", {"p": 2}, tensor(h=3, w=4), {"w": 6, "p": 2}),
        ("w h -> n", {}, tensor(b="b", h=3, w=4), {"b": "b", "n": 12}),
        ("b t -> n", {}, tensor(b=2, t=3, c=2), {"n": 6, "c": 2}),
        ("c -> g p", {"g": 2, "p": 3}, tensor(c=6), {"g": 2, "p": 3}),
        ("c -> value", {}, tensor(b=2, c=6), {"b": 2, "value": 6}),
    ],
)
def test_rearrange(pattern: str, sizes: dict[str, int], x: TensorType, made: dict[str, int | str]) -> None:
    operation = op("rearrange", pattern=pattern, sizes=sizes)
    check_law(operation, x)
    assert {a.name: str(a.size) for a in operation.infer(Facts(), x)} == {
        name: str(size) for name, size in made.items()
    }  # type: ignore[union-attr]


@settings(max_examples=25)
@given(
    st.permutations(["b", "h", "w", "c"]),
    st.sampled_from(["h -> h p, w -> w q, p q -> n", "h w -> n", "c -> p c, h p -> h", "c h -> c"]),
)
def test_rearrange_in_any_order(order: list[str], pattern: str) -> None:
    x = tensor(**{name: {"b": 2, "h": 4, "w": 6, "c": 2}[name] for name in order})
    check_law(op("rearrange", pattern=pattern, sizes={name: 2 for name in "pq" if f" {name}" in pattern}), x)


def test_windows_and_back_is_the_identity() -> None:
    x = torch.randn(2, 4, 6, 3)
    there = check_law(
        op("rearrange", pattern="h -> h p, w -> w q, p q -> n", sizes={"p": 2, "q": 3}), (tensor(b=2, h=4, w=6, c=3), x)
    )
    back = op("rearrange", pattern="n -> p q, h p -> h, w q -> w", sizes={"p": 2, "q": 3})
    assert torch.equal(check_law(back, (tensor(b=2, h=2, w=2, n=6, c=3), there(x)))(there(x)), x)


def test_rearrange_with_free_sizes_collects_divisibility() -> None:
    facts = Facts()
    operation = op("rearrange", pattern="h -> h p", sizes={"p": 7})
    assert str(operation.infer(facts, tensor(h="h")).size("h")) == "h // 7"  # type: ignore[union-attr]
    assert [str(c) for c in facts.conditions] == ["h % 7 == 0"]
    check_law(operation, tensor(b="b", h="h"), sizes={"h": 14})
    check_law(op("rearrange", pattern="n -> p q", sizes={"p": symbol("b")}), tensor(b="b", n=12), sizes={"b": 4})


@pytest.mark.parametrize(
    ("pattern", "sizes", "code", "words"),
    [
        ("h -> h p", {}, "A209", "unknown"),
        ("h h", {}, "A209", "names -> names"),
        ("h -> ", {}, "A209", "names -> names"),
        ("(h p) -> h", {}, "A209", "column 1"),
        ("z -> h", {}, "A209", "no axis `z`"),
        ("h -> w", {}, "A209", "already"),
        ("h -> h p", {"p": 3}, "A209", "does not divide"),
        ("h -> h p", {"p": 0}, "A209", "does not divide"),
        ("h -> p q", {"p": 2, "q": 3}, "A209", "= 6"),
        ("h -> p p", {}, "A209", "twice"),
        ("h w -> w h", {}, "A209", "no order"),
        ("h -> h p", {"p": 2, "q": 2}, "A209", "no part"),
        ("", {}, "A209", "names -> names"),
    ],
)
def test_patterns_that_are_refused(pattern: str, sizes: dict[str, int], code: str, words: str) -> None:
    with pytest.raises(OpError, match=words) as failure:
        infer("rearrange", tensor(h=4, w=6), pattern=pattern, sizes=sizes)
    assert failure.value.code == code


def test_time_stays_causal_where_it_is_the_slowest() -> None:
    x = tensor(b=2, t=6, c=2)
    assert not op("rearrange", pattern="t -> t p", sizes={"p": 3}).looks_ahead(x)
    assert op("rearrange", pattern="t -> p t", sizes={"p": 3}).looks_ahead(x) == {"t"}
    assert op("rearrange", pattern="t -> n").looks_ahead(x) == {"t"}
    assert op("rearrange", pattern="c t -> t").looks_ahead(x) == {"t", "c"}


def test_rearrange_reads_as_written_by_hand() -> None:
    x = tensor(b="b", h=14, w=14, c=3)
    windows = line(op("rearrange", pattern="h -> h p, w -> w q, p q -> n", sizes={"p": 7, "q": 7}), x)
    assert windows == "x.unflatten(1, (-1, 7)).unflatten(3, (-1, 7)).transpose(2, 3).flatten(3, 4)"
    assert line(op("rearrange", pattern="h w -> n"), x) == "x.flatten(1, 2)"
    assert (
        line(op("rearrange", pattern="c -> heads c", sizes={"heads": 3}), tensor(b="b", n=4, c=12))
        == "x.unflatten(-1, (3, -1))"
    )


# ---- names
@settings(max_examples=10)
@given(tensor_types(must=("c", "h")))
def test_rename(x: TensorType) -> None:
    check_law(op("rename", names={"c": "value"}), x)
    check_law(op("rename", names={"c": "h", "h": "c"}), x)


def test_rename_and_roles() -> None:
    assert infer("rename", tensor(c=2), names={"c": "heads"})["heads"].role == "free"
    assert op("rename", names={"t": "state"}).looks_ahead(tensor(t=2)) == {"t"}
    with pytest.raises(OpError, match="two axes"):
        infer("rename", tensor(c=2, h=3), names={"c": "h"})
    with pytest.raises(OpError, match="no axis `z`"):
        infer("rename", tensor(c=2, h=3), names={"z": "h"})


@settings(max_examples=10)
@given(
    tensor_types(names=("c", "h", "b")),
    st.sampled_from([{"n": 1}, {"n": 3}, {"n": 1, "state": 1}, {"n": 2, "state": 1}]),
)
def test_expand(x: TensorType, sizes: dict[str, int]) -> None:
    check_law(op("expand", sizes=sizes), x)


# ---- joining and cutting
def law_of_joining(xs: list[TensorType], on: str = "n") -> torch.nn.Module:
    """Without the check of independence, which wants all inputs that have an axis to have its size."""
    graph, _ = single(op("concat", on=(on,)), [xs])
    return check_emitted(
        graph,
        {
            port: torch.randn(
                [int(str(a.size)) for a in concrete(v.type, {"b": 2, **dict.fromkeys("nhwct", 3), "heads": 3})]
            )
            for port, v in graph.inputs.items()
        },
    )


@settings(max_examples=20)
@given(tensor_types(must=("n",), most=3), st.data())
def test_concat(x: TensorType, data: st.DataObject) -> None:
    first = data.draw(st.lists(st.sampled_from(x.without("n").names), unique=True) if len(x.axes) > 1 else st.just([]))
    token = TensorType((axis("n", data.draw(st.integers(1, 3))), *(x[name] for name in first)))
    law_of_joining(data.draw(st.permutations([x.resized(n=2), token, x.resized(n=1)])))


def test_a_class_token_reads_as_written_by_hand() -> None:
    token, x = tensor(n=1, c=4), tensor(b="b", n=6, c=4)
    law_of_joining([token, x])
    graph, _ = single(op("concat", on=("n",)), [[token, x]])
    assert "torch.cat((xs0.expand(b, -1, -1), xs1), 1)" in emit(graph)


def test_concat_on_time_is_causal_and_sizes_add_up() -> None:
    made = infer("concat", (tensor(t="t", c=2), tensor(t=3, c=2)), on=("t",))
    assert str(made.size("t")) == "t + 3"
    module = law_of_joining([tensor(t=4, c=2), tensor(t=3, c=2)], on="t")
    first, second = torch.randn(4, 2), torch.randn(3, 2)
    for late in range(3):
        changed = second.clone()
        changed[late:] += 1
        assert torch.equal(module(first, changed)[: 4 + late], module(first, second)[: 4 + late])
    with pytest.raises(OpError, match="do not agree"):
        infer("concat", (tensor(t=4, c=2), tensor(t=3, c=3)), on=("t",))


@settings(max_examples=10)
@given(tensor_types(most=3), st.data())
def test_stack(x: TensorType, data: st.DataObject) -> None:
    part = TensorType(tuple(data.draw(st.lists(st.sampled_from(x.axes), unique=True) if x.axes else st.just([]))))
    check_law(op("stack", axis=("level",)), [x, part, x])


@pytest.mark.parametrize("parts", [2, 3, (1, 5), (2, 2, 2), (6,), 1])
def test_split(parts: Any) -> None:
    check_law(op("split", parts=parts, on=("c",)), tensor(b="b", c=6, h=2))


def test_split_of_free_sizes() -> None:
    facts = Facts()
    assert str(infer("split", tensor(n="n"), facts=facts, parts=2, on=("n",))[0].size("n")) == "n // 2"
    assert [str(c) for c in facts.conditions] == ["n % 2 == 0"]
    check_law(op("split", parts=2, on=("n",)), tensor(n="n", c=2), sizes={"n": 4})
    with pytest.raises(OpError, match="sum to 5"):
        infer("split", tensor(c=6), parts=(2, 3), on=("c",))
    with pytest.raises(OpError, match="4 equal parts"):
        infer("split", tensor(c=6), parts=4, on=("c",))


@settings(max_examples=30)
@given(
    tensor_types(must=("n",), most=3),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_slice(x: TensorType, start: int, length: int, step: int, from_end: bool, open_end: bool) -> None:
    size = start + length + 1
    stop = None if open_end else (start + length + 1 - size or None) if from_end else start + length + 1
    check_law(op("slice", axis=("n",), start=start or None, stop=stop, stride=step), x.resized(n=size))
    check_law(op("slice", axis="n", start=-size, stop=-1, stride=step), x.resized(n=size + 1))


def test_slices_of_free_sizes() -> None:
    facts = Facts()
    assert str(infer("slice", tensor(n="n"), facts=facts, axis="n", start=1).size("n")) == "n - 1"
    assert substitute(infer("slice", tensor(h="h"), axis="h", stride=2).size("h"), {"h": 5}) == 3
    check_law(op("slice", axis="n", start=1, stop=-1), tensor(b="b", n="n"), sizes={"n": 5})
    check_law(op("slice", axis="n", start=symbol("k"), stop=None), tensor(b="b", k="k", n=5), sizes={"k": 2})
    assert infer("slice", tensor(n="n"), facts=facts, axis="n", stop=3).size("n") == 3
    assert "3 <= n" in [str(c) for c in facts.conditions]
    for bad in ({"stop": 9}, {"start": 5}, {"start": 3, "stop": 2}, {"stride": 0}, {"stride": -1}, {"start": -5}):
        with pytest.raises(OpError):
            infer("slice", tensor(n=4), axis="n", **bad)


def test_slices_of_time() -> None:
    x = tensor(t=6, c=2)
    assert op("slice", axis="t", start=1).looks_ahead(x) == {"t"}
    assert op("slice", axis="t", stop=-1).looks_ahead(x) == frozenset()
    check_law(op("slice", axis="t", stop=-1), x)
    assert op("select", axis="t", index=-1).looks_ahead(x) == {"t"}


@settings(max_examples=15)
@given(tensor_types(must=("n",), most=4), st.integers(-3, 2))
def test_select(x: TensorType, index: int) -> None:
    check_law(op("select", axis=("n",), index=index), x.resized(n=3))


def test_select_out_of_range() -> None:
    for index in (3, -4):
        with pytest.raises(OpError, match="no position"):
            infer("select", tensor(n=3), axis="n", index=index)
    facts = Facts()
    infer("select", tensor(n="n"), facts=facts, axis="n", index=1)
    assert [str(c) for c in facts.conditions] == ["2 <= n"]


def test_slices_of_several_axes_go_in_one_bracket() -> None:
    graph = Graph("net")
    x = graph.add_input("x", tensor(b="b", h=6, w=8, c=5))
    (rows,) = graph.add(op("slice", axis="h", start=0, stride=2), [("x", x)])
    (both,) = graph.add(op("slice", axis="w", start=1, stride=2), [("x", rows)])
    (last,) = graph.add(op("slice", axis="c", stop=3), [("x", both)])
    (again,) = graph.add(op("slice", axis="w", start=1), [("x", last)])
    (one,) = graph.add(op("select", axis="h", index=-1), [("x", again)])
    graph.outputs = [("", one)]
    assert "return x[:, 0::2, 1::2][..., :3][:, -1, 1:]\n" in emit(graph)
    check_emitted(graph, {"x": torch.randn(2, 6, 8, 5)})


# ---- padding and turning
@settings(max_examples=40)
@given(
    tensor_types(must=("h", "w"), most=5),
    st.sampled_from([(("h", 0, 1),), (("h", 0, 1), ("w", 2, 0)), (("w", 1, 1), ("h", 2, 1)), (("w", 0, 2),)]),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)
def test_pad(x: TensorType, amounts: tuple[tuple[str, int, int], ...], mode: str) -> None:
    pairs = AxisMap(tuple((name, (before, behind)) for name, before, behind in amounts))
    check_law(op("pad", amounts=pairs, mode=mode), x.resized(h=4, w=3))


def test_pad_with_a_value_and_on_time() -> None:
    check_law(op("pad", amounts={"c": 2}, value=1.5), tensor(b="b", c=3))
    for mode, ahead in (("zeros", set()), ("replicate", set()), ("reflect", {"t"}), ("circular", {"t"})):
        operation = op("pad", amounts={"t": (2, 0)}, mode=mode)
        assert operation.looks_ahead(tensor(b=2, t=5)) == ahead
        if not ahead:
            check_law(operation, tensor(b=2, t=5, c=2))
    with pytest.raises(OpError, match="at most 3"):
        infer("pad", tensor(h=4), amounts={"h": 4}, mode="reflect")
    with pytest.raises(OpError, match="no mode"):
        infer("pad", tensor(h=4), amounts={"h": 4}, mode="mirror")


@settings(max_examples=15)
@given(tensor_types(must=("h", "w")), st.integers(-5, 5), st.integers(-5, 5))
def test_roll(x: TensorType, down: int, right: int) -> None:
    check_law(op("roll", shift={"h": down, "w": right}), x)
    check_law(op("roll", shift=AxisMap((("w", right),))), x)


@settings(max_examples=10)
@given(tensor_types(must=("h", "w")), st.sampled_from([("h",), ("space",), ("w", "h")]))
def test_flip(x: TensorType, on: tuple[str, ...]) -> None:
    check_law(op("flip", on=on), x)


def test_identity() -> None:
    check_law(op("identity"), tensor(b="b", c=3))
