"""What an operation must state about itself, and the registry of all operations.

A subclass of `Primitive` is everything there is to know about one operation: its hyper-parameters (fields), its types
(`infer`), its weights (`params`), its meaning (`reference`), how it is written in PyTorch (`emit`) and what it costs
(`macs`). Adding one edits one file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from sys import float_info
from typing import Annotated, Any, ClassVar, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict

from archlang.emission import Emission as Emission
from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.shapes import ROLES, Axis, TensorType
from archlang.sizes import Poly, Size
from archlang.term import Term as Term


# ---- kinds of hyper-parameters: what a field takes, and how the language reads an argument for it
@dataclass(frozen=True, slots=True)
class Kind:
    """How an argument is read: `axes` (names of axes or roles), `units` (a size or the axes to make), `value` (an
    expression).
    """

    word: str


@dataclass(frozen=True, slots=True)
class AxisMap:
    """`[h = 1, w = 7]`: one value per axis, in the order written."""

    items: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        return dict(self.items)[name]

    def __str__(self) -> str:
        return f"[{', '.join(f'{name} = {value}' for name, value in self.items)}]"


def _whole(value: Any) -> Size:
    if isinstance(value, bool) or not isinstance(value, int | Fraction | Poly):
        raise ValueError(f"must be a whole number, and is {describe(value)}")
    if isinstance(value, Fraction) and value.denominator != 1:
        raise ValueError(f"must be a whole number, and is {value}")
    return int(value) if isinstance(value, Fraction) else value


LARGEST = 2**63 - 1  # of whole numbers: what is beyond it is a float


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise ValueError(f"must be a number, and is {describe(value)}")
    if not isinstance(value, float) and not -float_info.max <= value <= float_info.max:
        raise ValueError("must be a number that a float can hold")
    return float(value) if isinstance(value, Fraction) or abs(value) > LARGEST else value


def _operand(value: Any) -> Any:
    return value if isinstance(value, Poly) else _number(value)


def _per_axis(value: Any) -> Any:
    if isinstance(value, AxisMap):
        return AxisMap(tuple((name, _whole(size)) for name, size in value.items))
    return _whole(value)


def _units(value: Any) -> Any:
    return value if isinstance(value, tuple) and all(isinstance(item, Axis) for item in value) else _whole(value)


def _axis_name(value: Any) -> Any:
    if isinstance(value, tuple):
        if len(value) != 1:
            raise ValueError(f"must be one axis, and is [{', '.join(value)}]")
        return value[0]
    return value


def _axis_map(value: Any) -> Any:
    return AxisMap(tuple(value.items())) if isinstance(value, dict) else value


def describe(value: Any) -> str:
    """A value in an error message, in the words of the language."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str) else str(value)


Whole: TypeAlias = Annotated[Any, BeforeValidator(_whole)]  # a Size
Number: TypeAlias = Annotated[Any, BeforeValidator(_number)]  # int or float
Operand: TypeAlias = Annotated[Any, BeforeValidator(_operand)]  # a number, or a Size
PerAxis: TypeAlias = Annotated[Any, BeforeValidator(_per_axis)]  # a Size for every axis, or an AxisMap of sizes
Axes: TypeAlias = Annotated[tuple[str, ...], Kind("axes")]  # names of axes and of roles
AxisName: TypeAlias = Annotated[str, BeforeValidator(_axis_name), Kind("axes")]  # the name of one axis
PerName: TypeAlias = Annotated[AxisMap, BeforeValidator(_axis_map)]  # keywords that name axes, with their values
Units: TypeAlias = Annotated[
    Any, BeforeValidator(_units), Kind("units")
]  # a Size (of the axis that is replaced) or a tuple of Axis


def axes_of(on: Iterable[str], type_: TensorType) -> tuple[str, ...]:
    """The axes that `on` means in a type: a role stands for all axes that have it, whatever the rank, `all` for all."""
    names = [axis.name for axis in type_ for word in on if word in (axis.name, "all") or word == axis.role]
    return tuple(dict.fromkeys(names))


class OpError(Exception):
    """A mistake in the use of an operation. The elaborator puts the places to it: `about` names the field or input to
    blame.
    """

    def __init__(self, code: str, title: str, about: str | None = None, help: str | None = None) -> None:
        super().__init__(title)
        self.code, self.title, self.about, self.help = code, title, about, help


def need_axes(type_: TensorType, names: Iterable[str], about: str = "x") -> None:
    """Refuse a type that lacks one of the axes."""
    for name in names:
        if not axes_of((name,), type_):
            what = f"axis of role {name}" if name in ROLES else f"axis `{name}`"
            raise OpError("A205", f"there is no {what} in {type_}", about)


def _kind(annotation: Any, metadata: Iterable[Any]) -> str:
    """The word of an annotated type, or of one in a union: `Axes | None` is read as `axes`."""
    inner = (m for part in get_args(annotation) for m in getattr(part, "__metadata__", ()))
    return next((m.word for m in (*metadata, *inner) if isinstance(m, Kind)), "value")


def need_named(type_: TensorType, names: Iterable[str], about: str = "x") -> None:
    """Refuse a type that lacks one of the axes, where a role does not serve."""
    for name in names:
        if name not in type_:
            raise OpError("A205", f"there is no axis `{name}` in {type_}", about)


class Construct(BaseModel):
    """A call in the language that makes a compile-time value: an operation, a domain, an initialisation."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    name: ClassVar[str] = ""  # in the language
    kind: ClassVar[str] = ""  # the word for hyper-parameters that take one: layer, domain, init ...

    @classmethod
    @cache
    def kinds(cls) -> dict[str, str]:
        """How each field reads its argument, in order: `axes`, `units` or `value`."""
        return {name: _kind(info.annotation, info.metadata) for name, info in cls.model_fields.items()}

    def __str__(self) -> str:
        fields = type(self).model_fields
        changed = {n: v for n, v in self if n not in fields or v != fields[n].default}
        return f"{self.name}({', '.join(f'{n} = {describe(v)}' for n, v in changed.items())})" if changed else self.name


@dataclass(frozen=True, slots=True)
class Param:
    """A weight: its shape in PyTorch's layout, its axes, whether it is a buffer, and whether its values ascend along
    the last axis, as the knots of a grid.
    """

    shape: tuple[Size, ...]
    names: tuple[str, ...]
    buffer: bool = False
    dtype: str = "float"
    ascending: bool = False


# ---- operations
@dataclass(frozen=True, slots=True)
class Types:
    """The types of one application; of an input None where it is absent, a tuple where it is variadic."""

    inputs: tuple[Any, ...]
    outputs: tuple[TensorType, ...]


Result: TypeAlias = TensorType | tuple[TensorType, ...]


class Primitive(Construct):
    """One operation. `inputs` names its tensors: `x`, optional `x?`, any number `*xs`."""

    kind: ClassVar[str] = "layer"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    lowered: ClassVar[bool] = False  # made of several operations by the elaborator; it is no operation of a graph
    listed: ClassVar[bool] = False  # takes its variadic input as one list: what a loop over modules makes stays one
    by_type: ClassVar[bool] = False  # reads of its inputs only what type they have, not their values
    constant: ClassVar[bool] = False  # follows from sizes alone: one is enough for all who need its like
    random: ClassVar[bool] = False  # draws random numbers in training: never merged with its equal
    sequential: ClassVar[bool] = False  # runs along `on`, maybe in `reverse`: takes `over = ORDER` too
    logarithms: ClassVar[Mapping[str, str]] = {}  # inputs that are better taken as logarithms, and the inputs for these
    views: ClassVar[bool] = False  # its outputs lie in the memory of its first input
    saves: ClassVar[tuple[str, ...] | None] = None  # what the backward pass reads: inputs, `y` for outputs; None: all
    prefers: ClassVar[str | None] = None  # where `c` lies best in memory: "first" (conv, pool) or "last" (linear)

    def infer(self, facts: Facts, *inputs: Any) -> Result:
        """The types of the outputs; raises `OpError`."""
        raise NotImplementedError

    def params(self, *inputs: Any) -> Mapping[str, Param]:
        """The weights by PyTorch's leaf name; none by default. A weight given as an input is left out."""
        return {}

    def held(self, *inputs: Any) -> str:
        """What its module holds beside weights that all who share these must want, in words; empty for nothing."""
        return ""

    def emit(self, code: Emission, *inputs: Any) -> Term | tuple[Term, ...]:
        """The PyTorch form."""
        raise NotImplementedError

    def reference(self, types: "Types", *inputs: Any, **weights: Any) -> Named | tuple[Named, ...]:
        """The meaning: slow, obvious, in plain torch, from `Named` inputs (None where absent, a tuple where variadic)
        and torch weights by leaf.

        `types` holds the input and output types with the sizes of this call. Random noise of training is left out.
        """
        raise NotImplementedError

    def macs(self, *inputs: Any) -> Size:
        """Multiply-accumulates of matrix products and convolutions: half the FLOPs of torch's FlopCounterMode."""
        return 0

    def mixes(self, *inputs: Any) -> frozenset[str]:
        """The axes along which an output element depends on several positions of an input. All others may be cut,
        padded or batched.
        """
        return frozenset()

    def looks_ahead(self, *inputs: Any) -> frozenset[str]:
        """The mixed axes along which an output sees later positions; causal operations leave theirs out."""
        return self.mixes(*inputs)

    def split(self, *inputs: Any) -> "tuple[Primitive, Primitive] | None":
        """Where a part of it follows from sizes alone: an operation without inputs that makes this part, and one that
        takes it as its last input beside those of this.
        """
        return None

    def alone(self, *inputs: Any) -> "Primitive | None":
        """Where all of it follows from sizes and weights: an operation without inputs that makes it."""
        return self if self.constant else None

    def memory(self, *inputs: Any) -> Memory:
        """What is held in memory beside the inputs and outputs, and what of it for the backward pass. The axes of the
        types stand as they lie in memory, and `float` is what it is at run time.
        """
        ports = [port.strip("*?") for port in self.inputs] if self.saves is None else self.saves
        return Memory({port: "" for port in ports if port != "y"}, "y" in ports, view=self.views)

    def algorithm(self, *inputs: Any) -> str:
        """Which algorithm is emitted and why, where there are several; empty where there is one."""
        return ""

    # ---- one position of time after another
    def state(self, *inputs: Any) -> Mapping[str, TensorType]:
        """What one position of the time axis leaves to those after it, by name, at its largest: keys and values, the
        tail of a convolution, a recurrent matrix. Nothing for operations that see each position alone.
        """
        return {}

    def step(
        self, types: "Types", state: Mapping[str, Named], *inputs: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        """One position of time: the output there, and the state that it leaves. `types` are those of the whole
        sequence, inputs and output have the time axis with size 1, `state` is empty before the first position. Folded
        over the positions this is `reference`.
        """
        raise NotImplementedError

    def resume(self, code: Emission, *inputs: Any) -> Term | tuple[Term, ...]:
        """The PyTorch form that goes on where the last call stopped: the positions at hand come behind those before,
        what these left is `code.carried`. Where each stands alone, in the place where it does, this is `emit`.
        """
        return self.emit(code, *inputs)

    def resumes(self, *inputs: Any) -> bool:
        """Whether `resume` serves what mixes time, or counts its positions: by default where it carries a state."""
        return type(self).resume is not Primitive.resume and bool(self.state(*inputs))


_REGISTRY: dict[str, Callable[[], type[Construct]]] = {}


def define(name: str, make: Callable[[], type[Construct]]) -> None:
    """Make a construct known whose class is made when it is first asked for."""
    assert name not in _REGISTRY, name
    _REGISTRY[name] = cache(make)


def register(cls: type[Construct]) -> type[Construct]:
    """Make a construct known to the language under its `name`."""
    assert cls.name, cls
    define(cls.name, lambda: cls)
    return cls
