"""Compile kernels as they ship for GPUs that are not here, and print what each became: run by test_aot.py in a process
of its own, where Triton does not interpret.
"""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch

from archlang.testing.aot import compiling

if __name__ == "__main__":
    name, kind, *sizes = sys.argv[1:]
    launch: Callable[..., None] = importlib.import_module(f"tests.kernels.test_{name}").launch
    with compiling() as found:
        launch(getattr(torch, kind), *(int(size) if size.isdigit() else size for size in sizes))
    print(json.dumps([asdict(kernel) for kernel in found]))
