"""Files become input tensors; a file that cannot is an error with a code and a way out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from archlang import feed
from archlang.diagnostics import ArchError
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol

B, N = symbol("b"), symbol("n")
IMAGE = TensorType((axis("b", B), axis("c", 3), axis("h", 32), axis("w", 48)))
TOKENS = TensorType((axis("b", B), axis("n", N)), "int")
MASK = TensorType((axis("b", B), axis("n", N)), "bool")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", np.ones((2, 3, 32, 48)))
    np.save(tmp_path / "one.npy", np.ones((3, 32, 48), np.float32))
    np.save(tmp_path / "flat.npy", np.ones(7))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "tall.npy", np.ones((2, 3, 48, 32)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "halves.npy", np.ones((2, 5)) / 2)
    np.save(tmp_path / "none.npy", np.ones((0, 3, 32, 48)))
    np.save(tmp_path / "complex.npy", np.ones((2, 3, 32, 48), complex))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'shape': (2, 3\n\n")
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 8)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes.txt").write_text("")
    save_file({"tokens": torch.ones(2, 5, dtype=torch.int32), "mask": torch.ones(2, 5)}, tmp_path / "both.safetensors")
    save_file({"tokens": torch.ones(2, 5).int(), "mask": torch.ones(2, 4)}, tmp_path / "uneven.safetensors")
    save_file({"tokens": torch.ones(2, 5).int(), "x": torch.ones(1)}, tmp_path / "other.safetensors")
    Image.new("RGBA", (300, 100), (255, 0, 0, 255)).save(tmp_path / "photo.png")
    return tmp_path


def read(folder: Path, *files: str, normalize: str = "none", **ports: TensorType) -> dict[str, torch.Tensor]:
    places = [f.replace("=", f"={folder}/") if "=" in f else str(folder / f) for f in files]
    return feed.read_inputs(places, ports, normalize)


def test_array(folder: Path) -> None:
    tensor = read(folder, "image.npy", x=IMAGE)["x"]
    assert tensor.shape == (2, 3, 32, 48)
    assert tensor.dtype == torch.float32


def test_a_sample_becomes_a_batch(folder: Path) -> None:
    assert read(folder, "one.npy", x=IMAGE)["x"].shape == (1, 3, 32, 48)


def test_image_is_cut_to_the_input_and_normalised(folder: Path) -> None:
    tensor = read(folder, "photo.png", x=IMAGE, normalize="inception")["x"]
    assert tensor.shape == (1, 3, 32, 48)
    assert torch.equal(tensor[0].mean((1, 2)), torch.tensor([1.0, -1.0, -1.0]))


def test_several_inputs(folder: Path) -> None:
    tensors = read(folder, "both.safetensors", tokens=TOKENS, mask=MASK)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {"tokens": torch.int64, "mask": torch.bool}
    assert read(folder, "x=image.npy", "tokens=both.safetensors", x=IMAGE, tokens=TOKENS).keys() == {"x", "tokens"}


@pytest.mark.parametrize(
    ("files", "ports", "code", "words"),
    [
        (["nothing.npy"], {"x": IMAGE}, "A904", "there is no input file"),
        (["notes.txt"], {"x": IMAGE}, "A904", "is not of a known kind"),
        (["broken.npy"], {"x": IMAGE}, "A904", "cannot be read"),
        (["header.npy"], {"x": IMAGE}, "A904", "cannot be read"),
        (["zip.npy"], {"x": IMAGE}, "A904", "cannot be read"),
        (["text.npy"], {"x": IMAGE}, "A904", "cannot be read"),
        (["objects.npy"], {"x": IMAGE}, "A904", "cannot be read"),
        (["broken.png"], {"x": IMAGE}, "A904", "cannot be read"),
        (["broken.safetensors"], {"x": IMAGE}, "A904", "cannot be read"),
        ([], {"x": IMAGE}, "A905", "the input `x: [b, c = 3, h = 32, w = 48]` is missing"),
        (["y=image.npy"], {"x": IMAGE}, "A905", "the network has no input `y`"),
        (["image.npy"], {"x": IMAGE, "y": IMAGE}, "A905", "could be any of the inputs `x`, `y`"),
        (["flat.npy"], {"x": IMAGE}, "A905", "has 4 axes, the file 1: [7]"),
        (["tall.npy"], {"x": IMAGE}, "A905", "h of `x` is 48 in the file, and 32 in the network"),
        (["none.npy"], {"x": IMAGE}, "A905", "b of `x` is 0 in the file"),
        (["complex.npy"], {"x": IMAGE}, "A905", "the input `x` holds float, the file complex128"),
        (["halves.npy"], {"x": TOKENS}, "A905", "the input `x` holds int, the file float64"),
        (["photo.png"], {"x": TOKENS}, "A905", "an image does not fit the input int[b, n]"),
        (["other.safetensors"], {"tokens": TOKENS}, "A905", "the network has no input `x`"),
        (
            ["uneven.safetensors"],
            {"tokens": TOKENS, "mask": MASK},
            "A905",
            "n of `mask` is 4 in the file, and 5 in n of `tokens`",
        ),
    ],
)
def test_errors(folder: Path, files: list[str], ports: dict[str, TensorType], code: str, words: str) -> None:
    with pytest.raises(ArchError) as caught:
        read(folder, *files, **ports)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert words in diagnostic.title
