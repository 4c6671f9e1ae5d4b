"""Networks that decode: a sequence in pieces is the sequence whole, in a state as large as declared."""

import copy
import pickle
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch._dynamo.testing import CompileCounter

import archlang
from archlang.helpers.past_attention import past_attention
from archlang.helpers.past_mask import past_mask
from archlang.testing.decoding import check_pieces, in_pieces
from tests.test_examples import TOYS, network
from tests.test_stdlib import BLOCKS

LENGTH = 11
HEADS = """  q = x -> linear(8) as q -> rearrange("c -> heads c", heads = 2)
  k = x -> linear(8) as k -> rearrange("c -> heads c", heads = 2)
  v = x -> linear(8) as v -> rearrange("c -> heads c", heads = 2)
"""
ATTEND = 'y = attend(q, k, v{}) -> rearrange("heads c -> c")'
ATTENTION = {
    "causal": "",
    "scaled": ", scale = 0.3",
    "sliding": ", over = sliding(3)",
    "sliding_far": ", over = sliding(40)",
    "neighborhood": ", over = neighborhood(3, dilation = 2)",
    "chunks": ", over = chunks(4)",
    "alibi": ", position = alibi",
    "alibi_sliding": ", position = alibi, over = sliding(4)",
    "alibi_dilated": ", position = alibi, over = neighborhood(3, dilation = 2)",
    "relative_sliding": ", position = relative, over = sliding(4)",
    "relative_chunks": ", position = relative, over = chunks(4)",
    "buckets": ", position = t5_buckets(buckets = 6, distance = 9)",
    "rope": ", position = rope",
    "rope_sliding": ", position = rope, over = sliding(3)",
    "sigmoid": ", score = sigmoid(bias = -2)",
    "cap": ", cap = 2",
    "sink": ", sink = 0.5",
    "sink_sliding": ", sink = 0.5, over = sliding(3)",
}
RECURRENCES = {
    "linear": "",
    "by_head": ", decay = sigmoid(x -> linear([heads = 2]) as d)",
    "by_key": ", decay = sigmoid(x -> linear([heads = 2, c = 4]) as d)",
    "by_pair": ", decay = sigmoid(x -> linear([heads = 2, c = 4, c_value = 4]) as d)",
    "fixed_decay": ", decay = rename(values([0.9, 0.5], on = heads), heads = heads), scale = 0.5",
    "delta": ", beta = sigmoid(x -> linear([heads = 2]) as b)",
    "gated_delta": ", beta = sigmoid(x -> linear([heads = 2]) as b), decay = sigmoid(x -> linear([heads = 2]) as d)",
    "chunks_of_2": ", decay = sigmoid(x -> linear([heads = 2]) as d), chunk = 2",
}
SCAN = """  dt = softplus(x -> linear(8) as dt)
  param a: [c = 8, state = 3] = ones
"""
LTI = """  param dt: [c = 8] = ones * 0.1
  param a: [c = 8, state = 3] = ones * -0.5
"""
BODIES = {
    "selective": SCAN
    + "  y = selective_scan(x, dt, -exp(a), x -> linear([state = 3]) as b, x -> linear([state = 3]) as r)",
    "lti": LTI + "  param r: [c = 8, state = 3] = normal(1)\n  y = lti_scan(x, dt, a, r)",
    "lti_steps": LTI + '  param r: [c = 8, state = 3] = normal(1)\n  y = lti_scan(x, dt, a, r, mode = "recurrence")',
    "lti_complex": LTI
    + "  param im: [c = 8, state = 3] = normal(1)\n  z = complex(a, im)\n  y = lti_scan(x, dt, z, complex(im, a))",
    "linear_loop": "y = scan t carry S: [b, c = 8] = 0 {\n    S = 0.5 * S + x\n    yield S\n  }",
    "conv": "y = x -> conv(8, kernel = 3, dilation = 2)",
    "conv_norm": "y = x -> conv(8, kernel = 3) as conv -> batch_norm as norm",
    "conv_fixed": "param w: [units = 8, c = 8, t = 3] = normal(1)\n  y = conv(x, weight = w, units = 8, kernel = 3)",
    "depthwise": "y = x -> depthwise(4)",
    "shift": "y = x -> shift([2, 0, 1], on = t)",
    "cumsum": "y = cumsum(x, on = t)",
    "cumprod": "y = cumprod(x, on = t)",
    "gated_sum": "y = gated_sum(x, decay = sigmoid(x -> linear(8) as gate))",
    "moving_average": "y = gated_sum(x, factor = 0.9)",
    "lstm": "y = x -> lstm(6)",
    "gru": "y = x -> gru(6)",
    "positions": "y = x + embedding(32, 8)(index(t = t))",
    "sinusoid": "y = x + sinusoid(x)",
    "loop": "y = scan t carry S: [b, c = 8] = 0.5 {\n    S = tanh(S + x)\n    yield S * x\n  }",
    "two_carries": "y = scan t carry S: [b, c = 8] = 0, n: [b, c = 8] = 1 {\n    S = tanh(S * n + x)\n    n = sin(S + n)\n    yield S + n\n  }",
}

RATES = {
    "stride": "y = x -> conv(8, kernel = 5, stride = 2)",
    "stride_dilated": "y = x -> depthwise(3, stride = 2, dilation = 3)",
    "patches": "y = x -> conv(8, kernel = 2, stride = 2)",
    "strides": "y = x -> conv(8, kernel = 3, stride = 2) as a -> conv(8, kernel = 3, stride = 2) as b",
    "pool": "y = avg_pool(x, kernel = 2)",
    "up": "y = x -> conv(8, kernel = 4, stride = 2) as down -> conv_transpose(8, kernel = 2, stride = 2) as up",
    "repeated": 'y = x + (x -> conv(8, kernel = 4, stride = 2) as down -> resize(scale = 2, mode = "nearest", on = t))',
    "blocks": 'y = x -> rearrange("t -> t p", p = 2) -> linear([p = 2, c = 8], on = [p, c]) -> rearrange("t p -> t")',
    "attended": HEADS.replace("x -> ", "low -> ").replace(
        "  q", "  low = x -> conv(8, kernel = 3, stride = 2) as low\n  q", 1
    )
    + "  "
    + ATTEND.format(", position = rope"),
    "places": "low = x -> conv(8, kernel = 3, stride = 2) as low\n  y = low + embedding(32, 8)(index(t = t / 2))",
}


def program(name: str) -> str:
    if name in ATTENTION:
        body = HEADS + "  " + ATTEND.format(ATTENTION[name])
    elif name in RECURRENCES:
        body = HEADS + "  " + ATTEND.format(RECURRENCES[name]).replace("attend", "linear_recurrence")
    else:
        body = "  " + {**BODIES, **RATES}[name]
    return f"model net {{\n  input x: [b, t, c = 8]\n{body}\n  output out = y\n}}\n"


@cache
def small(name: str) -> Any:
    return archlang.loads(program(name), f"{name}.arch").net()


@st.composite
def splits(draw: Any) -> list[int]:
    sizes: list[int] = []
    while (left := LENGTH - sum(sizes)) > 0:
        sizes.append(draw(st.integers(1, left)))
    return sizes


@pytest.mark.parametrize("name", [*ATTENTION, *RECURRENCES, *BODIES])
def test_pieces_are_the_whole(name: str):
    """Of every operation with a state, at any split."""

    @settings(max_examples=2, deadline=None)  # the first is of single positions
    @given(st.lists(splits(), min_size=4, max_size=4))
    def check(several: list[list[int]]) -> None:
        check_pieces(small(name), {"b": 2, "t": LENGTH}, *several)

    check()


TIMED = [toy for toy in TOYS if any(type_.of_role("time") for type_ in network(toy.name).inputs.values())]
WHOLE = {"lssl", "lssl_recurrence", "s4d"}  # classifiers of whole sequences
DECODERS = [toy for toy in TIMED if toy.name not in WHOLE]


@pytest.mark.parametrize("toy", DECODERS, ids=lambda toy: toy.name)
def test_examples_in_pieces_are_whole(toy: Any):
    """A prompt, tokens, and chunks."""
    length = toy.sizes[0]["t"]
    check_pieces(network(toy.name), toy.sizes[0], [length], [1] * length, [length // 2, 1, length - length // 2 - 1])


SERIES = [
    (used, re.sub(r"\bt = \d+", "t", type_), made)
    for used, type_, made in BLOCKS
    if re.search(r"\bt\b", type_) and not re.search("capacity|reverse", made)  # these see the sequence whole
]


@pytest.mark.slow
@pytest.mark.parametrize(("used", "type_", "made"), SERIES)
def test_blocks_over_time_in_pieces_are_whole(used: str, type_: str, made: str):
    """Those of the standard library."""
    text = f"use {used}\nmodel net() {{\n  input x: {type_}\n  output y = {made.replace('(c)', '(8)')}\n}}"
    check_pieces(archlang.loads(text, "net.arch").net(), {"b": 2, "t": 6}, [6], [1] * 6, [2, 1, 3])


GOLDEN = Path(__file__).parent / "golden/decoding"


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_golden(name: str, request: pytest.FixtureRequest):
    """`--update-golden` writes them anew; read the difference before you commit it."""
    made = network(name).source(purpose="decoding").replace(archlang.__version__, "VERSION")
    if request.config.getoption("--update-golden"):
        (GOLDEN / f"{name}.py").write_text(made)
    assert made == (GOLDEN / f"{name}.py").read_text()


def test_emitted_text_is_as_ruff_leaves_it(tmp_path: Path):
    """Formatted, without unused names, with imports in order."""
    for name in [*ATTENTION, *RECURRENCES, *BODIES]:
        (tmp_path / f"{name}.py").write_text(small(name).source(purpose="decoding"))
    for toy in DECODERS:
        (tmp_path / f"{toy.name}_toy.py").write_text(network(toy.name).source(purpose="decoding"))
    rules = "E,F,I,W,B,C4,PIE,SIM,RET,UP"
    for command in (["format", "--check"], ["check", "--select", rules, "--ignore", "E501,B905"]):
        ruff = [sys.executable, "-m", "ruff", command[0], "--isolated", "--line-length", "120", *command[1:]]
        done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", RATES)
def test_strides_take_their_product_at_once(name: str):
    """The sequence at another rate."""
    module = check_pieces(small(name), {"b": 2, "t": 24}, [24], [4] * 6, [8, 4, 12])
    state = module.state()
    module.load_state(state)
    held = sum(value.numel() for part, value in state.items() if part != "past")
    assert held * 4 == small(name).cost.at({"b": 2, "t": 24}).state_bytes
    with pytest.raises(ValueError, match="must be a multiple of"):
        module(torch.zeros(2, 3, 8, dtype=torch.float64))


# ---- the state
def made(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A decoder in float32, and a sequence."""
    torch.manual_seed(0)
    return small(name).module(seed=0, purpose="decoding"), {"x": torch.randn(2, LENGTH, 8)}


STATES = "causal sliding rope depthwise shift cumsum gated_sum lstm two_carries positions by_key selective lti".split()
states = pytest.mark.parametrize("name", STATES)


@states
def test_state_is_as_large_as_declared(name: str):
    module, inputs = made(name)
    in_pieces(small(name), module, inputs, [4, 1, 6])
    held = {part: value for part, value in module.state().items() if part != "past"}
    assert sum(value.nbytes for value in held.values()) == small(name).cost.at({"b": 2, "t": LENGTH}).state_bytes


@states
def test_state_is_saved_and_loaded(name: str):
    """Into another network of the same weights, as a file of safetensors; it is no part of the `state_dict`."""
    module, inputs = made(name)
    whole = module(inputs["x"])
    module.reset()
    module(inputs["x"][:, :4])
    state = module.state()
    assert not set(state) & set(module.state_dict())
    other = small(name).module(seed=0, purpose="decoding")
    other.load_state(load(save(state)))
    torch.testing.assert_close(other(inputs["x"][:, 4:]), whole[:, 4:])
    torch.testing.assert_close(module(inputs["x"][:, 4:]), whole[:, 4:])  # what was saved is a copy


@states
def test_samples_are_chosen(name: str):
    """As a beam search does: each as often as it is named."""
    module, inputs = made(name)
    module(inputs["x"][:, :4])
    module.select(torch.tensor([1, 1, 0]))
    found = module(inputs["x"][[1, 1, 0], 4:])
    module.reset()
    torch.testing.assert_close(found, module(inputs["x"][[1, 1, 0]])[:, 4:])


@states
def test_a_call_that_fails_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    """Neither one that is refused, nor one that breaks off after all is written."""
    module, inputs = made(name)
    whole = module(inputs["x"])
    module.reset()
    module(inputs["x"][:, :4])
    with pytest.raises(ValueError, match="x must be"):
        module(inputs["x"][..., :3])
    with pytest.raises(ValueError, match="the sequence has 2 samples, and this call 3"):
        module(torch.randn(3, 1, 8))
    with monkeypatch.context() as broken:
        broken.setattr(module, "end", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            module(inputs["x"][:, :6])
    torch.testing.assert_close(module(inputs["x"][:, 4:]), whole[:, 4:])


def fails(*_: Any) -> None:
    raise RuntimeError("out of memory")


@states
def test_state_moves_with_the_network(name: str):
    """To another precision and back, in copies and in pickles."""
    module, inputs = made(name)
    whole = module(inputs["x"])
    module.reset()
    module(inputs["x"][:, :4])
    copied = pickle.loads(pickle.dumps(copy.deepcopy(module.double())))
    found = copied(inputs["x"][:, 4:].double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), whole[:, 4:])
    torch.testing.assert_close(module.float()(inputs["x"][:, 4:]), whole[:, 4:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("past"), "`past`, the number of positions seen, is missing"),
        (lambda state: state.pop("keys"), "it lacks keys, and has no other"),
        (lambda state: state.update(tail=state["keys"]), "it lacks nothing, and has tail"),
        (lambda state: state["past"].sub_(1), r"keys must be \[2, 2, 3, 4\] for 2 samples after 3 positions"),
        (lambda state: state.update(values=state["values"][:1]), r"values must be \[2, 2, 4, 4\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: Any, message: str):
    module, inputs = made("causal")
    module(inputs["x"][:, :4])
    state = module.state()
    change(state)
    with pytest.raises(ValueError, match=message):
        module.load_state(state)


@pytest.mark.parametrize("name", ["causal", "sliding"])
def test_room_for_what_comes_is_made_at_once(name: str):
    module, inputs = made(name)
    module.reset(capacity=LENGTH)
    module(inputs["x"][:, :4])
    before = [part.held.data_ptr() for part in module.carried.values()]
    for at in range(4, LENGTH):
        module(inputs["x"][:, at : at + 1])
    after = [part.held.data_ptr() for part in module.carried.values()]
    assert (before == after) == (name == "causal")
    assert all(part.held.shape[-2] <= LENGTH for part in module.carried.values())


def test_bounds_hold_for_the_whole_sequence():
    """And count what was seen."""
    text = 'model net {\n  input x: [b, t, c = 8]\n  require t <= 6, "as trained"\n  output y = cumsum(x, on = t)\n}'
    module = archlang.loads(text, "net.arch").net().module(purpose="decoding")
    module(torch.ones(1, 4, 8))
    with pytest.raises(ValueError, match=r"as trained: past \+ t <= 6 must hold, and past = 4, t = 3"):
        module(torch.ones(1, 3, 8))
    assert module(torch.ones(1, 2, 8))[0, -1, 0] == 6


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 40])
def test_windows_over_a_long_prompt_are_cut(reach: int):
    """Whatever is left at its end, behind any number of keys."""
    torch.manual_seed(0)
    for queries in range(1, 14):
        for before in range(min(reach, 4)):
            q, k, v = (
                torch.randn(2, 4, n, 8, dtype=torch.float64) for n in (queries, queries + before, queries + before)
            )
            logits = (q @ k.mT * 0.3).masked_fill(~past_mask(queries, queries + before, q.device, reach), float("-inf"))
            torch.testing.assert_close(past_attention(q, k, v, reach, 0.3), logits.softmax(-1) @ v)


# ---- faults
FAULTS = {
    "an offset dropped": ("rope", "past=past", "past=0"),
    "places that do not count": ("positions", "torch.arange(past, past + t", "torch.arange(0, t"),
    "a mask off by one": ("causal", "seen = back >= 0", "seen = back > 0"),
    "a window off by one": ("sliding", "seen & (back < reach)", "seen & (back <= reach)"),
    "blocks that begin at each call": ("chunks", "(place + past) % chunk", "place % chunk"),
    "a bias off by one": ("alibi_sliding", "middle - back", "middle - 1 - back"),
    "a tail too short": ("depthwise", "PastTail(None, 8, 3)", "PastTail(None, 8, 2)"),
    "a state that is not kept": ("by_head", "last.keep(state.contiguous())", "pass"),
    "a decay of the state left out": ("selective", "(step * a.to(kind)).exp()", "(0 * step * a.to(kind)).exp()"),
    "powers that begin too early": ("lti", "torch.exp(dt * a) * before", "before"),
    "a carry that is not kept": ("loop", "self.S.keep(S)", "self.S"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, monkeypatch: pytest.MonkeyPatch):
    """The law of pieces sees each of them."""
    name, right, wrong = FAULTS[fault]
    write = type(small(name)).source

    def written(self: Any, *args: Any, **how: Any) -> str:
        text = write(self, *args, **how)
        assert how["purpose"] != "decoding" or right in text
        return text.replace(right, wrong) if how["purpose"] == "decoding" else text

    monkeypatch.setattr(type(small(name)), "source", written)
    with pytest.raises((AssertionError, RuntimeError)):
        check_pieces(small(name), {"b": 2, "t": LENGTH}, [3, 4, 1, 3])


# ---- compilers
COMPILED = [
    ("rope", 0, 5),
    ("sliding", 0, 2),
    ("depthwise", 0, 2),
    ("gated_sum", 0, 2),
    ("loop", 0, 2),
    ("selective", 0, 2),
]


@pytest.mark.parametrize(
    ("name", "capacity", "graphs"),
    [("rope", 80, 2), ("by_head", 0, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in COMPILED)],
)
def test_tokens_are_compiled_once(name: str, capacity: int, graphs: int):
    """In one graph for a prompt and one for tokens, whatever was seen before; two more where room is made anew. Pieces of
    several tokens take as few.
    """
    torch._dynamo.reset()
    (module, inputs), counter = made(name), CompileCounter()
    module.reset(capacity)
    plain, compiled = copy.deepcopy(module), torch.compile(module, backend=counter, fullgraph=True)
    x = torch.cat([inputs["x"]] * 7, 1)
    pieces = [9, *[1] * 60, 2, 3, 1, 1]
    for at in range(len(pieces)):
        now = x[:, sum(pieces[:at]) : sum(pieces[: at + 1])]
        torch.testing.assert_close(compiled(now), plain(now))
        if at == 60:
            assert counter.frame_count == graphs
    assert counter.frame_count <= graphs + 2
