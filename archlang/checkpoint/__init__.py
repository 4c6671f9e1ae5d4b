"""Loading and saving published checkpoints through the maps of a model."""

from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from archlang import files
from archlang.checkpoint.adapters import Key, Tensors, WeightMap
from archlang.checkpoint.maps import compile_map, names
from archlang.diagnostics import error

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Key", "WeightMap", "compile_map", "load_weights", "names", "read_file", "save_weights"]


def load_weights(module: "nn.Module", file: "str | Path | Tensors", map: str | None = None) -> None:
    """Load a `.safetensors` file (or a mapping of tensors) into a module made by `Architecture.module`.

    `map` names a checkpoint map of the model; without one the file speaks the module's own names. Nothing is changed
    when anything does not fit.
    """
    import torch

    theirs = file if isinstance(file, Mapping) else read_file(Path(file))
    ours = module.state_dict()
    tensors = _map_of(module, map, ours).load(theirs, ours)
    with torch.no_grad():
        for key, tensor in tensors.items():
            ours[key].copy_(tensor)
    if isinstance(fold := getattr(module, "fold", None), MethodType):  # what its weights determine has changed
        fold()


def save_weights(module: "nn.Module", file: str | Path, map: str | None = None) -> None:
    """Write a module's weights as a `.safetensors` file, under the names of a checkpoint map; the file appears whole or
    not at all.
    """
    from safetensors.torch import save

    ours = module.state_dict()
    tensors = _map_of(module, map, ours).save({key: tensor.detach().cpu().clone() for key, tensor in ours.items()})
    try:
        files.write(Path(file), save({key: tensor.contiguous() for key, tensor in tensors.items()}))
    except OSError as failure:
        raise error("A608", f"`{file}` cannot be written: {failure.strerror or failure}") from None


def _map_of(module: "nn.Module", name: str | None, ours: Tensors) -> WeightMap:
    if name is None:
        return WeightMap("", {key: (Key(key), None) for key in ours}, ())
    architecture: Any = getattr(module, "architecture", None)
    if architecture is None:
        raise error(
            "A601",
            "the module was not made by archlang, and so has no checkpoint map",
            help="make it with `Architecture.module()`",
        )
    found: WeightMap = architecture.map(name)
    return found


def read_file(path: Path) -> Tensors:
    """The tensors of a `.safetensors` file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: Tensors = load_file(path)
    except (OSError, SafetensorError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise error("A608", f"`{path}` cannot be read as .safetensors: {reason}") from None
    return tensors
