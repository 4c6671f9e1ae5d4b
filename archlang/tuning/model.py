"""What a model expects of an implementation where nothing was measured: only on processors that it knows."""

from collections.abc import Sequence
from math import prod

from archlang.tuning.cases import Case

FEW_ROWS = 8  # a product with fewer reads its weights once, and is as fast in any layout
# Multiply-adds from which oneDNN's product outweighs the longer way to it, where MKL's is as fast (AMD without AVX-512)
MUCH, MUCH_OF_CONVOLUTION = 2**27, 2**26
LITTLE = 2**22  # where MKL's is slower (AMD with AVX-512)


def expected(case: Case, device: str, names: Sequence[str]) -> str:
    """The implementation that is likely the fastest. On AMD with AVX-512 torch's own products of matrices (MKL) are up
    to twice as slow as oneDNN's; with AVX2 they are as fast, and only large ones gain. Depthwise convolutions are as
    fast either way once channels are last.
    """
    if not device.startswith("AuthenticAMD") or "packed" not in names:
        return names[0]
    return "packed" if _gains(case, "avx512" in device) else names[0]


def _gains(case: Case, slow: bool) -> bool:
    """Whether a product on weights that are laid out once pays."""
    sizes = dict(case.sizes)
    if case.op == "linear":
        return sizes["rows"] >= FEW_ROWS and prod(sizes.values()) >= (LITTLE if slow else MUCH)
    if sizes["groups"] != 1:
        return slow
    macs = sizes["positions"] * sizes["c"] * sizes["units"] * sizes["kernel"] // sizes["stride"]
    return macs >= (LITTLE if slow else MUCH_OF_CONVOLUTION)
