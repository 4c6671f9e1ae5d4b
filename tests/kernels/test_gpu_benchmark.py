"""The benchmark of kernels, as far as it goes without a GPU."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FILE = Path(__file__).parent.parent.parent / "benchmarks/gpu.py"
WRITTEN = {"chain": "in one pass over memory", "scan": "the carries in registers"}  # from the graph
QUICK = ("chain", "causal_conv")


def benchmark() -> Any:
    sys.path.insert(0, str(FILE.parent))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_benchmark"] = module
    spec.loader.exec_module(module)
    return module


CASES = benchmark().CASES


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_refuses_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, str(FILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "benchmarks/gpu.py needs a CUDA GPU, and torch finds none here\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_cases_are_taken_by_their_kernels(case: Any) -> None:
    said = case.network().explain(target="triton")
    assert WRITTEN.get(case.kernel, f"kernel {case.kernel}:") in said


@pytest.mark.parametrize(
    "case",
    [case if case.kernel in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
    ids=lambda case: case.kernel,
)
def test_numbers_are_compared(case: Any) -> None:
    module = benchmark()
    for what, kind, error in module.errors(case, "cpu"):
        assert 0 < error <= module.ALLOWED[kind], f"{what} in {kind}: {error:.1e}"
