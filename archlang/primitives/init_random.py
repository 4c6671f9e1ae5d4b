"""Weights that start at random: distributions, and those whose width follows from the fan of the layer."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from archlang.primitive import Number, OpError, register
from archlang.primitives.init import Init, Write
from archlang.sizes import Size


def _above_0(value: Any) -> Any:
    if value <= 0:
        raise ValueError(f"must be above 0, and is {value}")
    return value


def _not_negative(value: Any) -> Any:
    if value < 0:
        raise ValueError(f"must not be negative, and is {value}")
    return value


# ---- distributions
@register
class Normal(Init):
    """The normal distribution."""

    name: ClassVar[str] = "normal"
    product: ClassVar[bool] = True
    form: ClassVar[str] = "nn.init.normal_({tensor}, {mean}, {std})"

    std: Annotated[Number, AfterValidator(_not_negative)] = 1.0
    mean: Number = 0.0

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        if self.mean:
            return super().code(shape, names, const)
        return f"torch.randn({shape})" + (f" * {const(self.std)}" if self.std != 1 else "")


@register
class TruncNormal(Init):
    """The normal distribution around 0, cut off at -2 and 2, as timm and torchvision start ViTs."""

    name: ClassVar[str] = "trunc_normal"
    form: ClassVar[str] = "nn.init.trunc_normal_({tensor}, std={std})"

    std: Annotated[Number, AfterValidator(_above_0)] = 0.02


@register
class Uniform(Init):
    """The uniform distribution from low to high."""

    name: ClassVar[str] = "uniform"
    form: ClassVar[str] = "nn.init.uniform_({tensor}, {low}, {high})"

    low: Number = 0.0
    high: Number = 1.0

    def check(self, axes: Mapping[str, Size]) -> None:
        if self.low > self.high:
            title = f"`uniform` is from the lower to the higher, not from {self.low} to {self.high}"
            raise OpError("A319", title, "init")


@register
class LogUniform(Init):
    """A number whose logarithm is uniform from log(low) to log(high)."""

    name: ClassVar[str] = "log_uniform"
    product: ClassVar[bool] = True
    form: ClassVar[str] = "{low} * {ratio} ** torch.rand({shape})"

    low: Number
    high: Number

    def check(self, axes: Mapping[str, Size]) -> None:
        if not 0 < self.low <= self.high:
            raise OpError(
                "A319", f"`log_uniform` runs between positive numbers, not from {self.low} to {self.high}", "init"
            )

    def _numbers(self, const: Write) -> dict[str, str]:
        return {"low": const(self.low), "ratio": const(self.high / self.low)}


# ---- by fan: weight [out, in, taps ..] maps `in` times `taps` values to each output
class _Fan(Init):
    least: ClassVar[int] = 2


@register
class XavierUniform(_Fan):
    """Uniform with variance 2 gain^2 / (fan in + fan out) (Glorot and Bengio, 2010)."""

    name: ClassVar[str] = "xavier_uniform"
    form: ClassVar[str] = "nn.init.xavier_uniform_({tensor}, {gain})"

    gain: Annotated[Number, AfterValidator(_not_negative)] = 1.0


@register
class XavierNormal(_Fan):
    """Normal with variance 2 gain^2 / (fan in + fan out) (Glorot and Bengio, 2010)."""

    name: ClassVar[str] = "xavier_normal"
    form: ClassVar[str] = "nn.init.xavier_normal_({tensor}, {gain})"

    gain: Annotated[Number, AfterValidator(_not_negative)] = 1.0


@register
class Kaiming(_Fan):
    """Uniform with variance 1 / (3 fan in): how PyTorch starts its linear maps and convolutions."""

    name: ClassVar[str] = "kaiming"
    form: ClassVar[str] = "nn.init.kaiming_uniform_({tensor}, a=5**0.5)"


@register
class KaimingUniform(_Fan):
    """Uniform with variance 2 / fan in, or 2 / fan out, for layers before a relu (He et al., 2015)."""

    name: ClassVar[str] = "kaiming_uniform"
    form: ClassVar[str] = 'nn.init.kaiming_uniform_({tensor}, mode="fan_{fan}", nonlinearity="relu")'

    fan: str = "in"

    def check(self, axes: Mapping[str, Size]) -> None:
        super().check(axes)
        if self.fan not in ("in", "out"):
            raise OpError("A319", f'`fan` is "in" or "out", not "{self.fan}"', "init")

    def _numbers(self, const: Write) -> dict[str, str]:
        return {"fan": self.fan}


@register
class KaimingNormal(KaimingUniform):
    """Normal with variance 2 / fan in, or 2 / fan out, for layers before a relu (He et al., 2015)."""

    name: ClassVar[str] = "kaiming_normal"
    form: ClassVar[str] = 'nn.init.kaiming_normal_({tensor}, mode="fan_{fan}", nonlinearity="relu")'


@register
class Variance(_Fan):
    """Normal with variance gain / fan in."""

    name: ClassVar[str] = "variance"
    product: ClassVar[bool] = True
    form: ClassVar[str] = 'nn.init.kaiming_normal_(torch.empty({shape}), nonlinearity="linear") * {scale}'

    gain: Number = 1.0

    def check(self, axes: Mapping[str, Size]) -> None:
        super().check(axes)
        if self.gain < 0:
            raise OpError("A319", f"a variance is not negative: {self.gain}", "init")

    def code(self, shape: str, names: tuple[str, ...] = (), const: Write = repr) -> str:
        text = super().code(shape, names, const)
        return text.rpartition(" * ")[0] if self.gain == 1 else text

    def _numbers(self, const: Write) -> dict[str, str]:
        return {"scale": const(self.gain**0.5)}


@register
class Orthogonal(_Fan):
    """gain times a matrix with orthonormal rows or columns; axes behind the first count as one (Saxe et al., 2013)."""

    name: ClassVar[str] = "orthogonal"
    form: ClassVar[str] = "nn.init.orthogonal_({tensor}, {gain})"

    gain: Number = 1.0
