"""Files to the tensors that a network takes, and back: images, .npy, .safetensors. A wrong file is an A9xx error."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlang.diagnostics import ArchError, error, suggest
from archlang.shapes import TensorType
from archlang.sizes import symbols

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from archlang.compile import Architecture

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
NORMALIZE = {  # mean and standard deviation by channel, of values in 0..1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def read_inputs(files: Iterable[str], ports: Mapping[str, TensorType], normalize: str) -> "dict[str, Tensor]":
    """The tensor of each input port, from `FILE` (a network with one input) and `NAME=FILE`."""
    given: dict[str, Tensor] = {}
    for item in files:
        name, path = _port_and_path(item, ports)
        if path.suffix.lower() == ".safetensors":
            given |= {key: tensor for key, tensor in _safetensors(path).items() if not name or key == name}
            continue
        port = name or _only(ports, path)
        given[port] = _image(path, ports[port], normalize) if path.suffix.lower() in IMAGES else _npy(path)
    _check_names(given, ports)
    tensors = {name: _fitted(name, given[name], port) for name, port in ports.items()}
    _check_sizes(tensors, ports)
    return tensors


def module(network: "Architecture", seed: int, weights: Path | None, map: str | None, allow: list[str]) -> "Module":
    """The network ready to run, with random or stored weights."""
    from archlang.checkpoint import load_weights

    made: Module = network.module(seed=seed, allow_python=allow).eval()
    if weights is not None:
        load_weights(made, weights, map=map)
    return made


def run(module: "Module", tensors: "Mapping[str, Tensor]", network: "Architecture") -> "dict[str, Tensor]":
    """The outputs by name."""
    import torch

    try:
        with torch.inference_mode():
            result = module(*(tensors[name] for name in network.inputs))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as failure:
        raise error("A907", "the network cannot take this input", help=str(failure).partition("\n")[0]) from None
    return dict(zip(network.outputs, result if isinstance(result, tuple) else (result,), strict=True))


def describe(tensor: "Tensor", port: TensorType, top: int) -> dict[str, Any]:
    """Shape, mean and deviation, and for class scores the likeliest classes of the first sample."""
    values = tensor.float()
    facts = {"shape": list(tensor.shape), "mean": values.mean().item(), "deviation": values.std(correction=0).item()}
    if port.names != ("b", "c"):
        return facts
    best = values[0].softmax(-1).topk(min(top, tensor.shape[1]))
    chosen = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return facts | {"top": [{"class": index, "probability": probability} for index, probability in chosen]}


def write_outputs(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """All outputs in one .safetensors file."""
    from safetensors.torch import save

    from archlang.files import write

    write(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _port_and_path(item: str, ports: Mapping[str, TensorType]) -> tuple[str, Path]:
    name, equals, path = item.partition("=")
    if not equals or Path(item).exists():
        return "", _existing(item)
    if name not in ports:
        raise _unknown(name, ports)
    return name, _existing(path)


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise error(
            "A904", f"there is no input file `{name}`", help="--input takes an image, a .npy or a .safetensors file"
        )
    if path.suffix.lower() not in IMAGES | {".npy", ".safetensors"}:
        raise error(
            "A904",
            f"`{name}` is not of a known kind",
            help=f"known are .npy, .safetensors, {', '.join(sorted(IMAGES))}",
        )
    return path


def _only(ports: Mapping[str, TensorType], path: Path) -> str:
    if len(ports) == 1:
        return next(iter(ports))
    names = ", ".join(f"`{name}`" for name in ports)
    raise error(
        "A905",
        f"`{path}` could be any of the inputs {names}",
        help=f"say which: --input {next(iter(ports), 'x')}={path}",
    )


def _unknown(name: str, ports: Mapping[str, TensorType]) -> ArchError:
    hint = suggest(name, ports) or f"the inputs are {', '.join(ports) or 'none'}"
    return error("A905", f"the network has no input `{name}`", help=hint)


def _unreadable(path: Path, reason: object) -> ArchError:
    return error("A904", f"`{path}` cannot be read: {reason}")


def _npy(path: Path) -> "Tensor":
    import numpy as np
    import torch

    try:
        with path.open("rb") as stream:
            return torch.from_numpy(np.lib.format.read_array(stream, allow_pickle=False))
    except Exception as failure:  # of a header, that NumPy has Python parse, too
        raise _unreadable(path, failure) from None


def _safetensors(path: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as failure:
        raise _unreadable(path, failure) from None


def _image(path: Path, port: TensorType, normalize: str) -> "Tensor":
    """`[1, c, h, w]`: scaled so that it covers the input, cut to its middle, normalised."""
    import numpy as np
    import torch

    pixels = _fit(_open(path), port)
    channels = port.size("c") if "c" in port else 3
    values = np.asarray(pixels.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    mean, std = NORMALIZE[normalize]
    normal = (values - mean) / std if channels == 3 else (values[..., None] - mean[0]) / std[0]
    return torch.from_numpy(normal.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def _open(path: Path) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise error("A904", "reading images needs Pillow", help='pip install "archlang[run]"') from None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as failure:
        raise _unreadable(path, failure) from None


def _fit(image: Any, port: TensorType) -> Any:
    from PIL import Image, ImageOps

    if port.names != ("b", "c", "h", "w") or port.size("c") not in (1, 3):
        raise error(
            "A905",
            f"an image does not fit the input {port}",
            help="give a .npy or .safetensors file with its axes in this order",
        )
    height, width = port.size("h"), port.size("w")
    if not (isinstance(height, int) and isinstance(width, int)):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def _check_names(given: Iterable[str], ports: Mapping[str, TensorType]) -> None:
    for name in given:
        if name not in ports:
            raise _unknown(name, ports)
    for name, port in ports.items():
        if name not in given:
            raise error("A905", f"the input `{name}: {port}` is missing", help=f"--input {name}=FILE")


def _fitted(name: str, tensor: "Tensor", port: TensorType) -> "Tensor":
    """`tensor` with the batch axis and the dtype of its port."""
    import torch

    if tensor.ndim == len(port.axes) - 1 and port.names[:1] == ("b",):
        tensor = tensor[None]
    whole = port.dtype.startswith(("int", "uint", "segments"))
    real = port.dtype.startswith(("float", "bfloat", "bool"))
    if (whole and tensor.is_floating_point()) or ((whole or real) and tensor.is_complex()):
        raise error(
            "A905", f"the input `{name}` holds {port.dtype}, the file {str(tensor.dtype).removeprefix('torch.')}"
        )
    names = {"float": "float32", "int": "int64", "segments": "int64", "complex": "complex64"}
    return tensor.to(getattr(torch, names.get(port.dtype, port.dtype)))


def _check_sizes(tensors: "Mapping[str, Tensor]", ports: Mapping[str, TensorType]) -> None:
    """Fixed sizes are met, and one symbol has one size in all inputs."""
    seen: dict[str, tuple[int, str]] = {}
    for name, tensor in tensors.items():
        axes, shape = ports[name].axes, list(tensor.shape)
        if len(shape) != len(axes):
            raise error(
                "A905", f"the input `{name}: {ports[name]}` has {len(axes)} axes, the file {len(shape)}: {shape}"
            )
        for axis, size in zip(axes, shape, strict=True):
            place = f"{axis.name} of `{name}`"
            if size == 0:
                raise error("A905", f"{place} is 0 in the file: there is nothing to run on")
            wanted, origin = (
                seen.setdefault(str(axis.size), (size, place)) if symbols(axis.size) else (axis.size, "the network")
            )
            if size != wanted:
                raise error(
                    "A905",
                    f"{place} is {size} in the file, and {wanted} in {origin}",
                    help=f"`{name}` is {ports[name]}",
                )
