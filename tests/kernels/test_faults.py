"""The checks of kernels can fail: each fault is planted in the text of a kernel, and found."""

import sys
from functools import cache, partial
from typing import Any

import pytest
import torch

import archlang
from archlang.emit import load
from tests.kernels import check, with_last
from tests.kernels import test_basis_linear as curves
from tests.kernels import test_causal_conv as conv
from tests.kernels import test_chains as chains
from tests.kernels import test_combine as experts
from tests.kernels import test_decode_attention as decode
from tests.kernels import test_delta_rule as delta
from tests.kernels import test_group_rational as rational
from tests.kernels import test_grouped_chain as hidden
from tests.kernels import test_grouped_linear as grouped
from tests.kernels import test_linear_cross_entropy as entropy
from tests.kernels import test_linear_recurrence as recurrence
from tests.kernels import test_near_attention as near
from tests.kernels import test_recurrence_steps as steps
from tests.kernels import test_scan as sequential
from tests.kernels import test_selective_scan as scan
from tests.kernels import test_sorted_choices as choices
from tests.kernels import test_tiled_scan as tiles
from tests.kernels import test_top_k_routing as routing
from tests.kernels import test_wide_depthwise as wide
from tests.kernels import test_window_attention as windows
from tests.kernels.test_window_attention import LINE, forms, inputs

# A fault may read memory of others, and numbers there may be of any size.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cache
def written(program: str) -> tuple[str, str]:
    """The text of a program with kernels, and its class."""
    network = archlang.loads(program).architecture()
    return network.source("triton"), network.class_name


def broken(program: str, right: str, wrong: str) -> Any:
    """The module of a program with a fault."""
    text, name = written(program)
    assert right in text
    return sys.modules[load(text.replace(right, wrong), name).__module__]


WINDOWS = {
    "the tail of a window is not masked": (
        "seen = (query < PLACES)[:, None] & there[None, :]",
        "seen = query[:, None] >= 0",
    ),
    "the bias has no gradient": ("bias_sum += weights * (", "bias_sum += 0.0 * weights * ("),
    "a shift joins both sides of the map": ("seen &= side[:, None] == side_k[None, :]", "seen = seen"),
    "the scale is missing in a gradient": ("k_sum * scale", "k_sum"),
    "heads are mixed up": ("head // group * k_strides[2]", "head % group * k_strides[2]"),
}


@pytest.mark.parametrize("fault", WINDOWS)
def test_faults_of_windows_are_found(fault: str) -> None:
    module, groups = broken(LINE, *WINDOWS[fault]), 2 if "heads" in fault else 1
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*forms(module, (6,), (3,), shift=(1,)), inputs((6,), (3,), 16, 16, groups=groups))


PAPERS = {
    "documents see each other": ("mask=here, other=0) * 8", "mask=here, other=0) * 0"),
    "the sink is no part of the sum": ("total += 1.0", "total += 0.0"),
    "the sink has no slope": (".sum((0, 2)).neg()", ".sum((0, 2))"),
    "windows share a bias": ("tl.cast(cell, tl.int64) * bias[2]", "0 * bias[2]"),
    "samples share a bias": ("batch * bias[1]", "0 * bias[1]"),
    "a bias has the slope of another window": ("steps = 1, cells\n", "steps = 1, 1\n"),
    "a bias has the slope of another sample": ("steps = cells, 1 ", "steps = 1, 1 "),
}


@pytest.mark.parametrize("fault", PAPERS)
def test_faults_of_documents_and_biases_in_windows_are_found(fault: str) -> None:
    module = broken(windows.MAP, *PAPERS[fault])
    given = inputs((4, 2), (2, 2), 16, 16, documents=True, sink=True)
    q, k, v, bias, *more = (torch.cat([x, x.flip(1)]) if x.ndim == 5 else x for x in given)
    places = torch.randint(3, (2, 4, 2, 1), generator=torch.Generator().manual_seed(1))
    each = torch.arange(2.0).view(2, 1, 1, 1, 1) if "sample" in fault else torch.arange(2.0).view(1, 2, 1, 1, 1)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*forms(module, (4, 2), (2, 2)), [q, k, v, bias + each, places, more[-1]])


NEAR = {
    "the tail is one position too short": ("end = (size[0] - 1 - rest[0])", "end = (size[0] - 2 - rest[0])"),
    "the table has no gradient": ("slopes += score_slopes(", "slopes += 0.0 * score_slopes("),
    "a border cuts the window": ("window = tl.minimum(tl.maximum(x[0] - half, 0),", "window = tl.minimum(x[0] - half,"),
    "offsets count the other way": ("key[0] - query[0] + span[0] // 2", "query[0] - key[0] + span[0] // 2"),
    "keys are half as far apart": ("step_0 * step[0] * stride", "step_0 * stride"),
}


@pytest.mark.parametrize("fault", NEAR)
def test_faults_of_neighborhoods_are_found(fault: str) -> None:
    module, size = broken(near.LINE, *NEAR[fault]), (11,)
    given, names = near.inputs(size, 16, 16, table=(5,))
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*near.forms(module, near.near(module, size, [{"nearest": 3, "step": 2}]), names), given)


DOCUMENTS = {
    "queries see the documents after their own": (
        "own[:, None] == tl.load(segments + row_k",
        "own[:, None] <= tl.load(segments + row_k",
    ),
    "keys are seen from other documents": (
        "own[:, None] == tl.load(segments + row, mask",
        "own[:, None] <= tl.load(segments + row, mask",
    ),
    "the first key of a document is skipped": ("tl.where(found, n, total)", "tl.where(found, n + 1, total)"),
    "the last key of a document is skipped": ("tl.where(found, n + 1, 0)", "tl.where(found, n, 0)"),
    "a table has the slopes of all documents": ("tl.load(segments + n + apart,", "tl.load(segments + n,"),
    "samples share their documents": ("segments += batch * places", "segments += 0 * batch * places"),
}


@pytest.mark.parametrize("fault", DOCUMENTS)
def test_faults_of_documents_are_found(fault: str) -> None:
    module, size = broken(near.LINE, *DOCUMENTS[fault]), (19,)
    given, names = near.inputs(size, 16, 16, table=(5,), segments=True)
    given[-1] = (torch.arange(19) + torch.tensor([[0], [5]])) // 17
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*near.forms(module, near.near(module, size, [{"before": 2, "after": 2}]), names), given)


SIGMOID, SQUARE = ("sigmoid", {"bias": -1.0}), ("relu", {"power": 2, "count": 3})
SCORES = {
    "the bias of a sigmoid is dropped": (SIGMOID, "tl.sigmoid(logits + number)", "tl.sigmoid(logits)"),
    "a sigmoid has no slope of its own": (SIGMOID, "bend = weights * (1.0 - weights)", "bend = weights"),
    "a power is lower by one": (SQUARE, "POWER):\n            weights *= over", "1):\n            weights *= over"),
    "a power has the slope of another": (SQUARE, "number * POWER, 0.0)", "number, 0.0)"),
    "keys have no share": (SQUARE, "weights = number * over", "weights = over"),
    "what is below 0 has a slope": (("relu", {}), "tl.where(logits > 0, ", "tl.where(logits > -9, "),
    "the slope of the cap is dropped": (SIGMOID, "slope *= bend", "slope *= 1.0"),
}


@pytest.mark.parametrize("fault", SCORES)
def test_faults_of_scores_are_found(fault: str) -> None:
    score, *change = SCORES[fault]
    module, size = broken(near.LINE, *change), (11,)
    given, names = near.inputs(size, 16, 16, table=(5,))
    axes = near.near(module, size, [{"before": 2, "after": 2}])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*near.forms(module, axes, names, score=score, cap=2.0), given)


CAPPED = {
    "the slope of the cap is dropped": ("slope *= bend", "slope *= 1.0"),
    "the bias has no gradient": ("bias_sum += score_slopes(", "bias_sum += 0.0 * score_slopes("),
}


@pytest.mark.parametrize("fault", CAPPED)
def test_faults_of_scores_in_windows_are_found(fault: str) -> None:
    module = broken(windows.MAP, *CAPPED[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*windows.forms(module, (2, 6), (1, 3), score=SQUARE, cap=2.0), windows.inputs((2, 6), (1, 3), 16, 16))


DECODED = {
    "the tail of the keys is not masked": ("there = key < places", "there = key <= places"),
    "a part ends one key early": (
        "tl.minimum((part + 1) * each, places)",
        "tl.minimum((part + 1) * each - 32, places)",
    ),
    "the last part is forgotten": ("here = part < parts", "here = part < parts - 1"),
    "parts are not levelled": ("share = tl.exp(tops - base)", "share = tl.where(here, 1.0, 0.0)"),
    "every part has the sum of the first": (
        "total_in + at * parts + part, mask",
        "total_in + at * parts + 0 * part, mask",
    ),
    "the sink has no weight": ("total += tl.exp(", "total += 0.0 * tl.exp("),
    "heads are mixed up": ("own * group + row", "own + row * shared"),
    "the mask is forgotten on the way back": ("mask[:, :, None] != 0", "mask[:, :, None] >= 0"),
    "the cap is forgotten": ("logits = cap * (2.0", "logits = logits + 0.0 * (2.0"),
    "what is masked is seen": ("seen &= tl.load(mask", "seen |= tl.load(mask"),
}


@pytest.mark.parametrize("fault", DECODED)
def test_faults_of_decoding_are_found(fault: str) -> None:
    given, names = decode.inputs(300, 16, 16, mask=True, sink=True)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*decode.forms(broken(decode.NET, *DECODED[fault]), names, cap=2.0), given)


def test_queries_that_are_forgotten_at_a_border_are_found() -> None:
    module, size = broken(near.LINE, "tl.where(x[0] < count[0], 0, ", "tl.where(x[0] < 0, 0, "), (40,)
    given, names = near.inputs(size, 16, 16)
    with pytest.raises(AssertionError, match=r"result 2"):
        check(*near.forms(module, near.near(module, size, [{"nearest": 25}]), names), given)


RATIONALS = {
    "the last tile is not masked": ("here = (row < rows)[:, None]", "here = (row < rows + 1)[:, None]"),
    "a sum is of one tile alone": ("sum_a_2 += slope_p", "sum_a_2 = slope_p"),
    "|x| slopes upwards everywhere": ("tl.where(value < 0, -q_slope,", "tl.where(value < 0, q_slope,"),
    "groups share their coefficients": ("tl.load(b + group * 4 + 1)", "tl.load(b + 1)"),
}


@pytest.mark.parametrize("fault", RATIONALS)
def test_faults_of_rationals_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(rational.MIXED, *RATIONALS[fault])
    monkeypatch.setattr(module, "RATIONAL_PARTS", 2)
    shape: Any = (2, (6, 4), False)
    pair = [rational.layer(module, *shape, whole=False, kernel=kernel) for kernel in (True, False)]
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*pair, rational.inputs(1300, 2, *shape))


CONVOLUTIONS = {
    "the last tile is not masked": ("(time < length))[:, None] & inside\n", "(time < length + 1))[:, None] & inside\n"),
    "taps are turned around": ("later = time + (TAPS - 1 - k) * DILATION", "later = time + k * DILATION"),
    "a slope forgets the activation": ("slope *= gate * (1.0 + total * (1.0 - gate))", "slope *= gate"),
    "a sum is of one tile alone": (
        "total += tl.where(slot == TAPS,",
        "total = tl.where(slot < TAPS, total, 0.0) + tl.where(slot == TAPS,",
    ),
    "what came before is lost": ("if STATE:\n        early", "if False:\n        early"),
}


@pytest.mark.parametrize("fault", CONVOLUTIONS)
def test_faults_of_convolutions_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(conv.NET, *CONVOLUTIONS[fault])
    monkeypatch.setattr(module, "CONV_PARTS", 2)
    options = {"silu": True, "before": True}
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*conv.forms(module, **options), conv.inputs(150, 17, 4, **options))


WIDES = {
    "the image goes on at its border": ("(column < width) & (row >= 0)", "(column <= width) & (row >= 0)"),
    "a row of the kernel is forgotten": ("(i < HIGH + 2)", "(i < HIGH + 1)"),
    "the kernel is not turned around": ("taps.flip(0) if ahead else taps", "taps if ahead else taps"),
    "an even kernel leans the other way": ("high // 2 if ahead else (high - 1) // 2", "high // 2"),
    "slopes are of one place alone": ("sum_1 += slope *", "sum_1 = slope *"),
}


@pytest.mark.parametrize("fault", WIDES)
def test_faults_of_large_kernels_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(wide.NET, *WIDES[fault])
    monkeypatch.setattr(module, "WIDE_PARTS", 2)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(module.triton_wide_depthwise, module.wide_depthwise, wide.inputs(4, 5, 2, (4, 3)))


RECURRENCES = {
    "the tail of a sequence is not masked": (
        "head",
        "chunk_places(x, at, heads, chunk, length, column, WIDTH, ROWS)\n    return tl.load(",
        "chunk_places(x, at, heads, chunk, length + 4, column, WIDTH, ROWS)\n    return tl.load(",
    ),
    "a state does not decay over a chunk": ("head", "state = state * whole[:, None] + ", "state = state + "),
    "a state is transposed": ("head", "read_state(grad_tile, tl.trans(state)", "read_state(grad_tile, state"),
    "the next chunk decays this one": (
        "head",
        "chunk_logs(next_row, at, heads, chunk, end - 1",
        "chunk_logs(next_row, at, heads, chunk, length - 1",
    ),
    "what is kept has no slope": ("head", " + kept_sum[None, :]", ""),
    "rows of one side of a border meet": (
        "channel",
        "behind[:, None] != behind[None, :]",
        "behind[:, None] == behind[:, None]",
    ),
    "a border is off by one": ("channel", "(2 * span) + span - 1)", "(2 * span))"),
}


@pytest.mark.parametrize("fault", RECURRENCES)
def test_faults_of_recurrences_are_found(fault: str) -> None:
    gate, *change = RECURRENCES[fault]
    module = broken(recurrence.ALL, *change)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*recurrence.forms(module), recurrence.inputs(100 if gate == "head" else 11, 16, 16, gate))


STARTS = {
    "a start is forgotten": (recurrence, "state += state_load(start", "state += 0.0 * state_load(start"),
    "the slope of a start has no scale": (recurrence, "grad_start.copy_(slope * scale)", "grad_start.copy_(slope)"),
    "a start has the slope of another head": (
        recurrence,
        "state_places(start, at, key",
        "state_places(start, 1 - at, key",
    ),
    "a start of a delta rule is forgotten": (delta, "state += state_load(start", "state += 0.0 * state_load(start"),
    "the slope of a start of a delta rule has no scale": (
        delta,
        "(state * scale).to(grad_start",
        "state.to(grad_start",
    ),
}


@pytest.mark.parametrize("fault", STARTS)
def test_faults_of_starts_are_found(fault: str) -> None:
    rule, *change = STARTS[fault]
    module, start = broken(rule.ALL, *change), torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*rule.forms_from(module), [start, *rule.inputs(20, 16, 16, "head", lead=(1, 2))])


EXPERTS = {
    "what is dropped counts": ("places = torch.full_like(order, -1)", "places = torch.full_like(order, 0)"),
    "one choice alone counts": ("total += share[:, None] * row", "total = share[:, None] * row"),
    "the weights have no gradient": ("total += tl.sum(row * slope, 1)", "total += 0.0 * tl.sum(row * slope, 1)"),
    "rows are not weighted on the way back": ("share[:, None] * slope)", "slope)"),
}


@pytest.mark.parametrize("fault", EXPERTS)
def test_faults_of_combining_are_found(fault: str) -> None:
    module = broken(experts.NET, *EXPERTS[fault])
    given, forms = experts.inputs(module, 9, 6, 4, 3)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*forms, given)


GROUPS = {
    "the last tile of an expert is forgotten": ("(end - begin + ROWS - 1) // ROWS", "(end - begin) // ROWS"),
    "an expert takes the weight of the one before": ("tl.load(weights + number)", "tl.load(weights + number // 2)"),
    "the bias has no gradient": ("slope += tl.sum(g_tile", "slope += 0.0 * tl.sum(g_tile"),
    "the tail of a sum is not masked": ("here = row < end", "here = row < end + 1"),
    "the weight is not turned around": ("channel_step=channels,", "channel_step=1,"),
}


@pytest.mark.parametrize("fault", GROUPS)
def test_faults_of_grouped_layers_are_found(fault: str) -> None:
    module = broken(experts.NET, *GROUPS[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*grouped.forms(module, [5, 7]), grouped.inputs([5, 7], 2, 8, 8))


HIDDEN = {
    "a row is read of another token": ("row = tl.load(tokens + row,", "row = tl.load(tokens + row // 2,"),
    "a token has the gradient of its first choice": (
        "for i in range(CHOICES):\n        place",
        "for i in range(1):\n        place",
    ),
    "both layers have the weights of the first": (
        "grouped_weight(weights, EXPERTS + expert,",
        "grouped_weight(weights, expert,",
    ),
    "both layers have the bias of the first": (
        "grouped_weight(biases, EXPERTS + expert,",
        "grouped_weight(biases, expert,",
    ),
    "the first layer is kept for the second": ("units + at, up.to", "units + at, gate.to"),
    "x has the gradient of one layer": ("for layer in range(LAYERS)", "for layer in range(1)"),
    "a weight has the gradient of the other layer": ("grad += number // EXPERTS * total * units", "grad += 0"),
    "rows of a token are one": (
        "tokens[:, None] * inner + torch.arange(inner, device=x.device)",
        "tokens[:, None] * inner + 0 * torch.arange(inner, device=x.device)",
    ),
}


@pytest.mark.parametrize("fault", HIDDEN)
def test_faults_of_hidden_layers_are_found(fault: str) -> None:
    module, name = broken(hidden.NET, *HIDDEN[fault]), "grouped_leaky_relu_sigmoid_mul"
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*hidden.forms(module, name, 5, 2, 3), hidden.inputs(2, 5, 3, 8, 5, inner=3))


ROUTERS = {
    "an expert is chosen twice": ('key = tl.where(hit, float("-inf"), key)', "key = key"),
    "no expert has a bias": ("key += tl.load(bias", "key += 0.0 * tl.load(bias"),
    "what is beyond the experts is scored": ('x = tl.where(inside, x, float("-inf"))', "x = x"),
    "a share has the slope of a score": (
        "slope -= tl.sum(slope * value, 1)",
        "slope -= 0.0 * tl.sum(slope * value, 1)",
    ),
    "scores have no slope": ("total += tl.load(grad_scores", "total += 0.0 * tl.load(grad_scores"),
    "the sum of a softmax stands still": ("(total - tl.sum(total * score, 1)[:, None])", "total"),
}


@pytest.mark.parametrize("fault", ROUTERS)
def test_faults_of_routers_are_found(fault: str) -> None:
    module = broken(routing.NET, *ROUTERS[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*routing.forms(module, 3, "softmax", "share", scored=True), routing.inputs(9, 5, bias=True))


SORTED = {  # which write nothing beyond the choices
    "all blocks begin where the first does": ("starts + tl.program_id(0) * SLOTS", "starts"),
    "all experts begin where the first does": ("until - counts + ends - until[-1]", "until - counts"),
    "one place is for all of a block": ("(start[None, :] + tl.cumsum(hit, 0) - 1)", "start[None, :]"),
    "experts end where the next do": ("ends[:experts]", "ends[1 : experts + 1]"),
}


@pytest.mark.parametrize("fault", SORTED)
def test_faults_of_sorting_are_found(fault: str) -> None:
    with pytest.raises(AssertionError):
        choices.check_sorted(broken(choices.NET, *SORTED[fault]), 3000, 1, 3)


LIMITS = {
    "all groups are open": ("tl.where(kept > 0, key,", "tl.where(kept >= 0, key,"),
    "one expert counts": ("total += tl.max(own, 1)", "total = tl.max(own, 1)"),
    "a group is chosen twice": (
        "worth = tl.where(group == best[:, None]",
        "worth = tl.where(group == -best[:, None] - 1",
    ),
    "groups are of other sizes": ("group = (expert // (EXPERTS // GROUPS[0]))", "group = (expert % GROUPS[0])"),
}


@pytest.mark.parametrize("fault", LIMITS)
def test_faults_of_groups_are_found(fault: str) -> None:
    module = broken(routing.limited(), *LIMITS[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*routing.forms(module, 3, "sigmoid", "share", groups=(5, 2, 2)), routing.inputs(29, 20, bias=True))


DELTAS = {
    "what is beyond the sequence is not 0": (
        "chunk_places(x, at, heads, chunk, length, column, WIDTH, ROWS)\n    return tl.load(places, mask=here, other=0.0)",
        "chunk_places(x, at, heads, chunk, length, column, WIDTH, ROWS)\n    return tl.load(places, mask=here, other=1.0)",
    ),
    "a state does not decay over a chunk": ("state = state * whole[:, None] + ", "state = state + "),
    "a state is transposed": ("read_state(slope, tl.trans(state)", "read_state(slope, state"),
    "a system is half solved": ("while span < ROWS:", "while span < ROWS // 2:"),
    "an inverse is not turned around": (
        "inverses + number * (ROWS * ROWS) + turned",
        "inverses + number * (ROWS * ROWS) + tl.trans(turned)",
    ),
    "strengths have half a slope": (" + slopes[1].sum(-1, keepdim=True)", ""),
}
DELTAS_BY_CHANNEL = {
    "a key meets itself": ("same += tl.sum(q_tile", "overlap += tl.sum(k_tile"),
    "a system knows no decays": ("product(k_met, tl.trans(k_met)", "product(k_tile, tl.trans(k_tile)"),
    "a state is written with keys as it is read": (
        ", q_read, k_read, k_left, kept, **",
        ", q_read, k_read, k_read, kept, **",
    ),
    "what a system takes has no slope": ("DECAY) - taken", "DECAY)"),
    "what is kept of a state has no slope": ("+ kept_sum[None, :]", "+ 0.0 * kept_sum[None, :]"),
    "a border is off by one": ("(2 * span) + span - 1)", "(2 * span))"),
}


@pytest.mark.parametrize("fault", DELTAS)
def test_faults_of_delta_rules_are_found(fault: str) -> None:
    module = broken(delta.ALL, *DELTAS[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*delta.forms(module), delta.inputs(60, 16, 16, "head"))


@pytest.mark.parametrize("fault", DELTAS_BY_CHANNEL)
def test_faults_of_delta_rules_by_channel_are_found(fault: str) -> None:
    module = broken(delta.ALL, *DELTAS_BY_CHANNEL[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*delta.forms(module), delta.inputs(40, 8, 8, "channel"))


LAST_STATES = {
    "the last state is transposed": (
        "recurrence",
        "tl.store(places, state.to(last.dtype.element_ty)",
        "tl.store(places, tl.trans(state).to(last.dtype.element_ty)",
    ),
    "the last state is that of the first part": ("recurrence", "part == tl.num_programs(2) - 1", "part == 0"),
    "the slope of the last state is dropped": (
        "recurrence",
        "slope if grad_last is None else (grad_last.float() / scale).contiguous()",
        "slope",
    ),
    "the slope of the last state is scaled": ("recurrence", "grad_last.float() / scale", "grad_last.float()"),
    "the slope of the last state lies as the state": (
        "recurrence",
        "(grad_last.float() / scale).contiguous()",
        "grad_last.float() / scale",
    ),
    "the last state lacks the last chunk": (
        "delta",
        "state.to(last.dtype.element_ty)",
        "(state / whole[:, None]).to(last.dtype.element_ty)",
    ),
    "the delta rule drops the slope of the last state": (
        "delta",
        "state += state_load(grad_last",
        "state += 0.0 * state_load(grad_last",
    ),
    "a scan starts from nothing": ("scan", "state += tl.load(start", "state += 0.0 * tl.load(start"),
    "a scan ends with a state of others": ("scan", "tl.store(last + own", "tl.store(last + 0 * own"),
    "the slope of the last state of a scan is dropped": (
        "scan",
        "slope += tl.load(grad_last",
        "slope = slope * tl.load(grad_last",
    ),
    "a start has the slope of the first state": (
        "scan",
        "tl.store(grad_start + own + places, slope",
        "tl.store(grad_start + own + places, slope / decay",
    ),
}


@pytest.mark.parametrize("fault", LAST_STATES)
def test_faults_of_last_states_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, *change = LAST_STATES[fault]
    program, rule, start, given = {
        "recurrence": (recurrence.ALL, "linear_recurrence", (8, 8), recurrence.inputs(70, 8, 8, "head")),
        "delta": (delta.ALL, "delta_rule", (8, 8), delta.inputs(20, 8, 8, "head")),
        "scan": (scan.NET, "selective_scan", (3, 5), scan.inputs(9, 5, 3)),
    }[family]
    module, more = broken(program, *change), {} if family == "scan" else {"scale": 0.7}
    if family == "recurrence":
        monkeypatch.setattr(module, "RECURRENCE_PROGRAMS", 8)
    forms = (with_last(partial(getattr(module, name), **more)) for name in (f"triton_{rule}", rule))
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*forms, [torch.randn(start, generator=torch.Generator().manual_seed(1)), *given])


STEPS = {
    "a state does not decay": ("state *= step_decay(", "state += 0.0 * step_decay("),
    "a key reads a state that decays later": (
        "state += write * new[None, :]",
        "state += write * new[None, :] / tl.exp(0.1 * write)",
    ),
    "a decay of keys is that of values": ("key[:, None] * g[4] + value[None, :] * g[5]", "value[None, :] * g[4]"),
    "the last state lacks what is written": (
        "tl.store(places, state.to(last",
        "tl.store(places, (state - write * new[None, :]).to(last",
    ),
    "heads read the state of the first": ("state_load(start, at,", "state_load(start, 0 * at,"),
    "the delta rule takes back with the query": ("tl.sum(state * write, 0)", "tl.sum(state * read, 0)"),
    "what is beyond the keys is read": ("mask=column < WIDTH", "mask=column < WIDTH + 3"),
    "the slope of the last state is dropped": ("grad_last.float()) if", "0.0 * grad_last.float()) if"),
}


@pytest.mark.parametrize("fault", STEPS)
def test_faults_of_steps_are_found(fault: str) -> None:
    module = broken(steps.ALL, *STEPS[fault])
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*steps.forms(module, True), [steps.start(), *steps.inputs("pair", True)])


CHAINS = {
    "columns beyond the last are summed": ("tl.sum(tl.where(here, x, 0.0), along", "tl.sum(x, along"),
    "weights forget tiles": ("sum_weight += ", "sum_weight = "),
    "the norm's scale does not move": ("-0.5 * chain_sum(", "0.0 * chain_sum("),
    "a residual loses its own slope": (" = grad_y + ", " = "),
    "samples lie as close as rows": (
        "(row // inner).to(tl.int64) * steps[0]",
        "(row // inner).to(tl.int64) * steps[1]",
    ),
}


@pytest.mark.parametrize("fault", CHAINS)
def test_faults_of_chains_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = CHAINS[fault]
    plain = archlang.loads(chains.NORM).net(c=17).module(seed=0)
    network = archlang.loads(chains.NORM).net(c=17)
    text = network.source("triton")
    assert right in text
    fused = load(text.replace(right, wrong), network.class_name)()
    fused.load_state_dict(plain.state_dict())
    monkeypatch.setattr(sys.modules[type(fused).__module__], "CHAIN_PARTS", 2)
    kernel, form, weights = chains.calls(network, fused, plain)
    x, h, gate = chains.inputs(3, 2, 200, 17)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(lambda x, h, gate, *w: kernel(x[:, :100], h[:, :100], gate[:, :100], *w), lambda x, h, gate, *w: form(x[:, :100], h[:, :100], gate[:, :100], *w), [x, h, gate, *weights])  # fmt: skip


SCANS = {
    "what is beyond the channels is read": (
        "mask=column < channels, other=0.0",
        "mask=column < channels + 1, other=0.0",
    ),
    "a state is not carried on": ("state = state * (tl.exp(time", "state = 0.0 * (tl.exp(time"),
    "a slope does not decay": ("slope *= decay", "slope *= 1.0"),
    "a document reads the one before": ("!= 0, 0.0, 1.0)", "!= 0, 1.0, 1.0)"),
    "the state after is read": ("* decay\n            slope +=", "\n            slope +="),
}


@pytest.mark.parametrize("fault", SCANS)
def test_faults_of_selective_scans_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(scan.NET, *SCANS[fault])
    monkeypatch.setattr(module, "SCAN_EVERY", 4)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*scan.forms(module), scan.inputs(9, 5, 3, documents=True))


SEQUENCES = {
    "an element is read from another column": ("lane // width, lane % width", "lane // width, lane % (width - 1)"),
    "a carry is not moved on": ("h, s = next_h, next_s", "h, s = next_h, s"),
    "carries move one after another": ("tl.maximum(s, h - number2)", "tl.maximum(s, next_h - number2)"),
    "a slope is not carried back": ("slope_h, slope_s = next_h, next_s", "slope_h, slope_s = next_h, 0.0 * next_s"),
    "parts start from carries of others": ("sequential_slot((count - 1 - part) * 2", "sequential_slot(part * 2"),
    "what is the same at all positions has the slope of one": ("sum_u += ", "sum_u = "),
    "carries are kept too late": ("step % EVERY == 0", "step % EVERY == 1"),
    "a carry starts from nothing": (
        "h = sequential_whole(h_start_in, lane, here)",
        "h = 0.0 * sequential_whole(h_start_in, lane, here)",
    ),
}


@pytest.mark.parametrize("fault", SEQUENCES)
def test_faults_of_scans_are_found(fault: str) -> None:
    right, wrong = SEQUENCES[fault]
    network = archlang.loads(sequential.CELL).net()
    plain, text = network.module(seed=0), network.source("triton")
    assert right in text
    fused = load(text.replace(right, wrong), network.class_name)()
    kernel, form, weights = chains.calls(network, fused, plain)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(kernel, form, [*chains.inputs(2, 2, 40, 4), *chains.inputs(1, 2, 4), *weights])


CURVES = {
    "the last channel is left out": ("(column < C)[None, :]", "(column < C - 1)[None, :]"),
    "one function alone counts": (
        "for k in range(0, COUNT):\n            value",
        "for k in range(0, COUNT - 1):\n            value",
    ),
    "slopes are of the function itself": ("_, slope = basis_at(", "slope, _ = basis_at("),
    "a function has the weight of the next channel": (
        "tl.cast(k, tl.int64) * C + column)[:, None]",
        "tl.cast(k, tl.int64) * C + column // 2)[:, None]",
    ),
    "knots are those of one channel": ("place = knots + column * (COUNT + 4) + k", "place = knots + column * 0 + k"),
    "a spline ends early": ("(x < knot_4)", "(x < knot_3)"),
    "rows of one tile count": ("total += product(tl.trans(value)", "total = product(tl.trans(value)"),
}


@pytest.mark.parametrize("fault", CURVES)
def test_faults_of_curves_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(curves.ONE.replace("BASIS", "bspline"), *CURVES[fault])
    monkeypatch.setattr(module, "BASIS_PROGRAMS", 12)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*curves.forms(module, "cubic"), curves.inputs(50, 4, 5, "cubic"))


CHANNELS = {
    "two channels share a curve": ("weight + column * COUNT", "weight + column // 2 * COUNT"),
    "one function alone counts": ("total += share[None, :] * value", "total = share[None, :] * value"),
    "slopes are of the function itself": ("_, slope = basis_at(", "slope, _ = basis_at("),
    "rows of one tile count": ("total += value * slopes", "total = value * slopes"),
    "a slope forgets that of the result": ("total *= slopes.to(tl.float32)", "total *= 1.0"),
}


@pytest.mark.parametrize("fault", CHANNELS)
def test_faults_of_curves_of_channels_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(curves.CURVE.replace("BASIS", "bspline"), *CHANNELS[fault])
    monkeypatch.setattr(module, "CURVE_PARTS", 2)
    x, weight = curves.inputs(300, 5, 1, "cubic")
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*curves.forms(module, "cubic", 5, "basis_curve"), [x, weight.view(5, -1)])


WAVES = {
    "a quarter of a turn too much": ("(quarter == 1) | (quarter == 2)", "quarter == 2"),
    "sines turn with cosines": ("quarter >= 2", "quarter >= 1"),
    "a turn is as long as 8 bits say": (" - quarters * 0.0004825592041015625", ""),
}


@pytest.mark.parametrize("fault", WAVES)
def test_faults_of_waves_are_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=r"result \d"):
        curves.test_large_angles(broken(curves.CURVE.replace("BASIS", "fourier(3)"), *WAVES[fault]))


ENTROPIES = {
    "what is beyond the last class counts": (
        'mask=column < units, other=float("-inf")',
        'mask=column < units + 1, other=float("-inf")',
    ),
    "a sum does not follow the largest": ("total = total * tl.exp(top - base) +", "total = total +"),
    "what is ignored has a loss": ("tl.where(kept, found, 0.0)", "found"),
    "what is ignored has a slope": ("tl.where(kept, whole * (", "tl.where(True, whole * ("),
    "the class that is right has no slope of its own": ("column == chosen, 1.0 - smoothing", "column == chosen, 0.0"),
    "the slopes of large logits are those of others": ("2.0 * z * log", "z * log"),
    "smoothing spreads over one class less": ("- smoothing / units", "- smoothing / (units - 1)"),
    "the rows of one part count": ("grad_weight += slopes", "grad_weight = slopes"),
    "an offset has the slopes of one part": ("grad_bias += slopes", "grad_bias = slopes"),
    "all positions have the slope of one": ("tl.load(grad + row)", "tl.load(grad)"),
    "a part has the slopes of the first": ("else slope[part]", "else slope"),
}


@pytest.mark.parametrize("fault", ENTROPIES)
def test_faults_of_losses_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(entropy.EACH, *ENTROPIES[fault])
    monkeypatch.setattr(module, "LOGITS", 10 * 33)
    options: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": 3}
    options["reduction"] = "none" if "position" in fault or "first" in fault else "mean"
    module.tile_shape = lambda kernel, x, sizes, **shipped: {"COLUMNS": 16, "num_warps": 4}
    with pytest.raises(AssertionError, match=r"result \d"):
        check(*entropy.forms(module, 17, 33, **options), entropy.inputs(17, 9, 33))


TILES = {
    "sums are of the whole tile": ("sums", "tl.sum(tl.where(here, x, 0.0), along", "tl.sum(x, along"),
    "softmaxes are of the whole tile": ("sums", 'tl.max(tl.where(here, x, float("-inf")), along', "tl.max(x, along"),
    "heads are mixed up": ("xlstm", "heads_at, rest = place % heads_size", "heads_at, rest = 0 * place"),
    "all are made again from the first": ("fast", "kept + count - 1 - part", "kept"),
    "a sum is that of the position before": (
        "fast",
        "total2 = tl.load(tiled_slot(walked_total2, place * EVERY + step - first",
        "total2 = tl.load(tiled_slot(walked_total2, place * EVERY + tl.maximum(step - first - 1, 0)",
    ),
    "factors of a slope are of other positions": (
        "unit",
        "left_weight + time *",
        "left_weight + (length - 1 - time) *",
    ),
    "heads share the slope of a matrix": ("xlstm", "abti,abtj->bij", "abti,actj->bij"),
    "what programs share has the slope of one": (
        "sums",
        "grad.sum_to_size(x.shape)",
        "grad.view(-1)[: x.numel()].view(x.shape)",
    ),
    "what is carried has no slope": ("unit", "slope_h = ", "slope_h = 0.0 * "),
}


@pytest.mark.parametrize("fault", TILES)
def test_faults_of_tiled_scans_are_found(fault: str) -> None:
    form, *change = TILES[fault]
    text = tiles.TEXTS[form]
    _, plain, weights = tiles.forms(text)
    module: Any = broken(text, *change)
    fused = module.Net()
    kernel, _, _ = chains.calls(archlang.loads(text).net(), fused, fused)
    with pytest.raises(AssertionError, match=r"result \d"):
        check(kernel, plain, [*tiles.values(text, 34 if form == "fast" else 3), *weights])
