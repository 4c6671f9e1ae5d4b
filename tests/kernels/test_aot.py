"""Every kernel compiles for the GPUs that it ships for, with registers to spare and memory that fits."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from archlang.testing.aot import SHARED

QUICK = [
    ("near_attention", "bfloat16", 2, 32),
    ("decode_attention", "bfloat16", 128, 4),
    ("window_attention", "bfloat16", 7, 32),
    ("group_rational", "bfloat16", 768),
    ("causal_conv", "bfloat16", 256, 4),
    ("linear_recurrence", "bfloat16", 128, 128, "channel"),
    ("delta_rule", "bfloat16", 128, 128, "channel"),
    ("recurrence_steps", "bfloat16", 128, 128, "key", True),
    ("chains", "bfloat16", 768),
    ("selective_scan", "bfloat16", 1536, 16),
    ("scan", "bfloat16", 256, "cell"),
    ("tiled_scan", "bfloat16", "xlstm", {"dim": 64}),
    ("basis_linear", "bfloat16", 768, 3072, "bspline"),
    ("basis_linear", "bfloat16", 768, 0, "bspline"),
    ("grouped_chain", "bfloat16", 4096, 14336, 2),
    ("basis_linear", "bfloat16", 768, 0, "fourier(3)"),
    ("top_k_routing", "bfloat16", 128, 4, "none", "softmax"),
    ("linear_cross_entropy", "bfloat16", 1024, 32000),
]
MORE = [
    *(("grouped_linear", kind, c, units) for kind, c, units in [("bfloat16", 1024, 2048), ("float32", 96, 384)]),
    *(
        ("grouped_chain", kind, c, units, layers)
        for kind, c, units in [("bfloat16", 1024, 2048), ("float16", 64, 96), ("float32", 96, 384)]
        for layers in (1, 2)
    ),
    *(
        ("top_k_routing", kind, experts, k, score, "share")
        for kind, experts, k, score in [
            ("float32", 256, 8, "sigmoid"),
            ("float16", 8, 2, "softmax"),
            ("bfloat16", 1000, 64, "softmax"),
        ]
    ),
    ("top_k_routing", "bfloat16", 256, 8, "sigmoid", "share", (8, 4, 2)),
    ("top_k_routing", "bfloat16", 160, 6, "softmax", "none", (8, 3, 1)),
    *(("sorted_choices", "int64", experts) for experts in (8, 256, 1023)),
    *(("combine", kind, c, choices) for kind, c, choices in [("bfloat16", 2880, 4), ("float32", 96, 2)]),
    *(
        ("wide_depthwise", kind, c, side)
        for kind, c, side in [("bfloat16", 96, 7), ("float32", 96, 7), ("float16", 20, 31)]
    ),
    *(("near_attention", kind, 1, c) for kind, c in [("bfloat16", 64), ("float16", 128), ("float32", 64)]),
    *(("near_attention", kind, 1, c, "packed") for kind, c in [("bfloat16", 64), ("float16", 128), ("float32", 64)]),
    *(("near_attention", "float16", 1, c, program) for c in (16, 32, 128) for program in ("table", "both")),
    ("near_attention", "bfloat16", 1, 128, "both"),
    *(("near_attention", kind, 1, c, "all") for kind, c in [("bfloat16", 64), ("float16", 128), ("float32", 64)]),
    *(("near_attention", kind, 1, c, "scored") for kind, c in [("bfloat16", 64), ("float16", 128), ("float32", 64)]),
    *(("near_attention", kind, 2, c) for kind, c in [("bfloat16", 64), ("float16", 128), ("float32", 32)]),
    *(("window_attention", "bfloat16", side, c) for side, c in [(7, 64), (8, 32), (12, 128), (16, 24)]),
    *(("window_attention", "float32", side, c) for side, c in [(7, 32), (16, 32)]),
    *(("decode_attention", kind, c, group) for kind, c, group in [("float16", 64, 1), ("float32", 128, 32)]),
    *(("decode_attention", "bfloat16", c, 64) for c in (128, 256)),
    *(("window_attention", kind, 7, c, "relu") for kind, c in [("bfloat16", 32), ("float16", 128), ("float32", 32)]),
    *(
        ("window_attention", kind, 7, c, "documents")
        for kind, c in [("bfloat16", 128), ("float16", 32), ("float32", 32)]
    ),
    *(("group_rational", kind, c) for kind, c in [("float32", 768), ("bfloat16", 192), ("float16", 8)]),
    *(("causal_conv", kind, 100, taps) for kind, taps in [("float32", 4), ("float32", 6), ("float16", 2)]),
    *(
        ("linear_recurrence", "bfloat16", c, d, gate)
        for c, d, gate in [(64, 64, "none"), (128, 64, "head"), (256, 512, "channel")]
    ),
    *(("linear_recurrence", "float32", c, c, gate) for c, gate in [(64, "head"), (64, "channel")]),
    ("linear_recurrence", "float16", 256, 256, "head"),
    *(
        ("delta_rule", "bfloat16", c, d, gate)
        for c, d, gate in [
            (64, 64, "none"),
            (128, 128, "head"),
            (256, 512, "head"),
            (64, 64, "channel"),
            (256, 512, "channel"),
        ]
    ),
    *(("delta_rule", "float32", 64, 64, gate) for gate in ("head", "channel")),
    *(
        (rule, kind, c, d, gate, True)
        for rule, kind, c, d, gate in [
            ("linear_recurrence", "bfloat16", 128, 128, "channel"),
            ("linear_recurrence", "float32", 64, 64, "head"),
            ("delta_rule", "bfloat16", 256, 512, "head"),
            ("delta_rule", "float16", 128, 128, "none"),
            ("delta_rule", "bfloat16", 128, 128, "channel"),
        ]
    ),
    *(("selective_scan", "float32", channels, n) for channels, n in [(100, 128), (768, 16)]),
    *(
        ("recurrence_steps", kind, c, d, decay, beta, heads)
        for kind, c, d, decay, beta, heads in [
            ("float32", 64, 64, "none", False, 8),
            ("bfloat16", 128, 128, "head", True, 512),
            ("float16", 256, 512, "key", False, 512),
            ("bfloat16", 1024, 64, "head", True, 16),
            ("float32", 256, 256, "pair", True, 512),
        ]
    ),
    *(
        ("selective_scan", kind, channels, n, True)
        for kind, channels, n in [("bfloat16", 1536, 16), ("float32", 100, 128)]
    ),
    *(("delta_rule", "float16", 128, 128, gate) for gate in ("none", "channel")),
    *(("basis_linear", kind, c, units, "bspline") for kind, c, units in [("float32", 100, 33), ("float16", 64, 64)]),
    *(("basis_linear", "bfloat16", 512, 512, basis) for basis in ("rbf", "rswaf", "chebyshev", "fourier(8)")),
    ("basis_linear", "float32", 100, 33, "rbf"),
    *(("basis_linear", "float32", c, 0, basis) for c, basis in [(100, "bspline"), (768, "rswaf"), (768, "fourier(8)")]),
    *(("linear_cross_entropy", kind, 64, units) for kind, units in [("float32", 1030), ("float16", 50257)]),
    *(("scan", kind, c, form) for kind, c, form in [("float32", 100, "cell"), ("float16", 64, "sum")]),
    *(
        ("tiled_scan", kind, form, sizes)
        for kind, form, sizes in [
            ("bfloat16", "unit", {"dim": 64}),
            ("float32", "unit", {"dim": 50}),
            ("float16", "xlstm", {"dim": 32}),
            ("bfloat16", "fast", {"keys": 64, "values": 64}),
            ("float32", "fast", {"keys": 32, "values": 128}),
            ("bfloat16", "sums", {"dim": 512}),
        ]
    ),
    *(("chains", kind, c, "sandwich") for kind, c in [("bfloat16", 2048), ("float32", 4096)]),
    *(("chains", kind, c) for kind, c in [("float32", 768), ("bfloat16", 64), ("bfloat16", 4096), ("float32", 4096)]),
]


@pytest.fixture(scope="module")
def compiler() -> Iterator[subprocess.Popen[str]]:
    """One process that compiles all configurations: to import Triton takes longer than most of them."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.aot"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("configuration", [*QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in MORE)], ids=str)
def test_kernels_fit(configuration: tuple[object, ...], compiler: Any) -> None:
    compiler.stdin.write(f"{json.dumps(configuration)}\n")
    compiler.stdin.flush()
    found = json.loads(compiler.stdout.readline())
    assert isinstance(found, list), found
    assert {kernel["capability"] for kernel in found} == set(SHARED)
    for kernel in found:
        assert kernel["spilled"] == 0, kernel
        assert kernel["shared"] <= SHARED[kernel["capability"]], kernel
