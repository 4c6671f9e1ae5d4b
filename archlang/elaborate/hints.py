"""What to say about a name that nothing has."""

import re
from collections.abc import Iterable

from archlang import resources
from archlang.diagnostics import suggest

ELSEWHERE = {
    "dense": "linear", "fc": "linear", "lin": "linear", "proj": "linear", "affine": "linear", "swish": "silu",
    "upsample": "resize", "interpolate": "resize", "permute": "rearrange", "transpose": "rearrange",
    "reshape": "rearrange", "view": "rearrange", "flatten": "rearrange", "unflatten": "rearrange", "einsum": "dot",
    "matmul": "dot", "bmm": "dot", "cat": "concat", "chunk": "split", "ln": "layer_norm", "bn": "batch_norm",
    "deconv": "conv_transpose", "scaled_dot_product_attention": "attend", "sdpa": "attend", "zip_longest": "zip",
}  # fmt: skip
WORDS = ("same", "valid", "zeros", "reflect", "replicate", "circular", "nearest", "bilinear", "bicubic", "linear")


def hint(name: str, known: Iterable[str]) -> str | None:
    """Where the name is to be had, or what is meant by it."""
    known = set(known)
    if name in WORDS:
        return f'such words stand in quotes: `"{name}"`'
    if family := _families().get(name):
        return f"it is in the standard library: `use std.{family}: {name}`"
    if (other := ELSEWHERE.get(name)) in known:
        return f"it is called `{other}` here"
    return suggest(name, known)


def _families() -> dict[str, str]:
    """The blocks of the standard library and where they are."""
    found: dict[str, str] = {}
    for file in resources.folder("stdlib").iterdir():
        family, _, kind = file.name.partition(".")
        if kind == "arch":
            found |= dict.fromkeys(re.findall(r"^block (\w+)", resources.read_text("stdlib", file.name), re.M), family)
    return found
