"""Compile kernels as they ship for GPUs that are not here, and print what each became: run by test_aot.py in a process
of its own, where Triton does not interpret. A line of input is a configuration, a line of output its kernels, or what
went wrong.
"""

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from archlang.testing.aot import compiling


def kernels(name: str, kind: str, *sizes: Any) -> list[dict[str, Any]]:
    """What the kernels of one configuration become."""
    launch: Callable[..., None] = importlib.import_module(f"tests.kernels.test_{name}").launch
    with compiling() as found:
        launch(getattr(torch, kind), *sizes)
    return [asdict(kernel) for kernel in found]


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            answer: Any = kernels(*json.loads(line))
        except Exception:
            answer = traceback.format_exc()
        print(json.dumps(answer), flush=True)
