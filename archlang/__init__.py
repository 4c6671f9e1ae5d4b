"""archlang: a declarative compiler for neural-network architectures.

    program = archlang.load("examples/maxvit.arch")
    network = program.maxvit(variant="tiny", classes=10).module(seed=0)

Names are imported when they are used: `import archlang` costs nothing, and torch is loaded only to run a network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archlang.checkpoint import load_weights, save_weights
    from archlang.compile import Architecture, Program, check, format_text, load, loads
    from archlang.diagnostics import ArchError, Diagnostic

__version__ = "0.1.0"
__all__ = [
    "ArchError",
    "Architecture",
    "Diagnostic",
    "Program",
    "check",
    "format_text",
    "load",
    "load_weights",
    "loads",
    "save_weights",
]
HOMES = {  # of what is not in `compile`
    "ArchError": "diagnostics",
    "Diagnostic": "diagnostics",
    "load_weights": "checkpoint",
    "save_weights": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'compile')}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
