"""What to say about a name that nothing has."""

import re
from collections.abc import Iterable
from functools import cache

from archlang import resources
from archlang.diagnostics import ArchError, error, suggest
from archlang.shapes import default_role
from archlang.source import Span

ELSEWHERE = {
    "dense": "linear", "fc": "linear", "lin": "linear", "proj": "linear", "affine": "linear", "swish": "silu",
    "upsample": "resize", "interpolate": "resize", "reshape": "rearrange", "view": "rearrange",
    "flatten": "rearrange", "unflatten": "rearrange", "einsum": "dot", "matmul": "dot", "bmm": "dot", "cat": "concat",
    "chunk": "split", "ln": "layer_norm", "bn": "batch_norm", "deconv": "conv_transpose",
    "scaled_dot_product_attention": "attend", "sdpa": "attend", "zip_longest": "zip",
}  # fmt: skip
NO_ORDER = "axes are found by their names: their order needs no change"
INSTEAD = {
    "permute": NO_ORDER, "transpose": NO_ORDER, "unsqueeze": "`expand(x, n = 1)` makes an axis",
    "squeeze": "`x[n = 0]` drops an axis",
    "global_avg_pool": "it is `mean(on = space)`", "global_max_pool": "it is `max(on = space)`",
}  # fmt: skip
SIZED = "weights start before a free size is known: give the axis a size where the model declares its input"
WORDS = ("same", "valid", "zeros", "reflect", "replicate", "circular", "nearest", "bilinear", "bicubic", "linear")


def missing(name: str, span: Span, known: Iterable[str]) -> ArchError:
    """The error of a name that nothing has."""
    return error("A101", f"there is no `{name}` here", span, help=hint(name, known))


def hint(name: str, known: Iterable[str]) -> str | None:
    """Where the name is to be had, or what is meant by it."""
    known = set(known)
    if name in ("True", "False", "None"):
        return f"it is called `{name.lower()}` here"
    if name in WORDS:
        return f'such words stand in quotes: `"{name}"`'
    if name in INSTEAD:
        return INSTEAD[name]
    if family := _families().get(name):
        return f"it is in the standard library: `use std.{family}: {name}`"
    if (other := ELSEWHERE.get(name)) in known:
        return f"it is called `{other}` here"
    if default_role(name) != "free":
        return f"`x.{name}` is the size of the axis `{name}` of a tensor `x`"
    return suggest(name, known)


@cache
def _families() -> dict[str, str]:
    """The blocks of the standard library and where they are."""
    found: dict[str, str] = {}
    for file in resources.folder("stdlib").iterdir():
        family, _, kind = file.name.partition(".")
        if kind == "arch":
            text = resources.read_text("stdlib", file.name)
            found |= dict.fromkeys(re.findall(r"^block (\w+)", text, re.MULTILINE), family)
    return found
