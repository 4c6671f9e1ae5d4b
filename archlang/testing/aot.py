"""What kernels become on a GPU, on a machine that has none: every launch compiles instead of running.

    with compiling() as found:
        kernel[grid](...)
    found[0].spilled

Registers, spills and shared memory are facts of the compiler, never a speed. It wants a process of its own, in which
Triton does not interpret.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of shared memory that one block may have, by compute capability


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel as one GPU has it."""

    name: str
    capability: int
    constants: str
    registers: int
    spilled: int  # bytes of registers that went to memory
    shared: int  # bytes


class _Device:
    """As much of a GPU as the compiler asks for."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(capabilities: Sequence[int] = (80, 90)) -> Iterator[list[Compiled]]:
    """Launches inside compile for all capabilities; the list grows by one item a kernel and capability."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    found: list[Compiled] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **given: Any) -> None:
        for capability in capabilities:
            driver.set_active(_Device(capability))
            kernel = run(self, *args, grid=grid, warmup=True, **given)
            constants = ", ".join(f"{name}={value}" for name, value in given.items() if name.isupper())
            found.append(_read(kernel, capability, constants))

    JITFunction.run = compile_only
    try:
        yield found
    finally:
        JITFunction.run = run
        driver.set_active(None)  # whoever asks next finds the real device


def _read(kernel: Any, capability: int, constants: str) -> Compiled:
    """What stands in the machine code of a kernel: registers, and a stack where they were too few."""
    from triton.backends import nvidia

    reader = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(reader), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", said)
    assert used, said
    spilled = int(used[2]) + int(used[3])
    return Compiled(kernel.metadata.name, capability, constants, int(used[1]), spilled, kernel.metadata.shared)
