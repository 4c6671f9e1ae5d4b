"""Linear recurrences."""

from tests.toys import Toy

TIMES = ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4})
SERIES = "[b, t, c = 8]"
SMALL = {"vocab": 32, "dim": 16, "depth": 2, "hidden": 24}

TOYS = [
    Toy("gla", "gla", "gla_lm", None, {**SMALL, "heads": 2, "rank": 4}, TIMES),
    Toy("delta_net", "delta_net", "delta_net_lm", None, {**SMALL, "heads": 2}, TIMES),
    Toy("gated_delta_net", "delta_net", "gated_delta_net_lm", None, {**SMALL, "heads": 2, "head_dim": 4}, TIMES),
    Toy("delta_product", "delta_product", "delta_product_lm", None, {**SMALL, "heads": 2, "head_dim": 4}, TIMES),
    Toy("retnet", "retnet", "retnet", None, {"vocab": 32, "dim": 16, "depth": 2, "heads": 2}, TIMES),
    Toy("transnormer", "transnormer", "transnormer", None, {**SMALL, "heads": 2}, TIMES),
]
BLOCKS = [
    ("std.recurrent: short_conv", SERIES, "x -> short_conv(3)"),
    ("std.recurrent: causal_linear_attention", SERIES, "x -> causal_linear_attention(2, sigmoid)"),
    ("std.recurrent: causal_linear_attention", SERIES, 'x -> causal_linear_attention(2, identity, "clamp")'),
    ("std.recurrent: causal_linear_attention", SERIES, 'x -> causal_linear_attention(2, elu, weights = "norm")'),
    ("std.recurrent: retention", SERIES, "x -> retention(2)"),
    ("std.recurrent: lightning", SERIES, "x -> lightning(2, slope = 0.5)"),
    ("std.recurrent: lightning", SERIES, "x -> lightning(2, turned = true)"),
    ("std.recurrent: simple_rms_norm", SERIES, "x -> simple_rms_norm"),
    ("std.recurrent: gla", SERIES, "x -> gla(2, rank = 3)"),
    ("std.recurrent: hgrn2", SERIES, "x -> hgrn2(2, least = 0.3)"),
    ("std.recurrent: delta_net", SERIES, "x -> delta_net(2)"),
    ("std.recurrent: gated_delta_net", SERIES, "x -> gated_delta_net(2, 4)"),
    ("std.recurrent: gated_delta_product", SERIES, "x -> gated_delta_product(3, heads = 2, head_dim = 4)"),
    ("std.recurrent: slow_decay", SERIES, "x -> slow_decay(2)"),
]
