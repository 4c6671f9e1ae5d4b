"""Names in emitted code: what the user wrote, made safe for Python and for `nn.Module`."""

import re
from collections.abc import Callable
from keyword import iskeyword

# Names that emitted code itself reads, in `forward` and in `__init__`.
_USED = frozenset(
    {"__debug__", "self", "torch", "nn", "F", "math", "zip", "reversed", "list", "float", "max", "min", "ValueError"}
)
_USED_TO_MAKE = frozenset({"super", "range"})
# Attributes of every `nn.Module` (a test compares with torch): a submodule of that name would hide one.
_MODULE = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad""".split()
)
_FOLDED = frozenset({"fold", "derive", "derive_from", "sources"})  # methods of modules that only evaluate
_OWN = frozenset({"compile_blocks", "graph"})  # methods of modules that have blocks which repeat, or kernels
_IRREGULAR = {"axes": "axis", "indices": "index", "matrices": "matrix", "series": "series"}


def local(name: str) -> str:
    """A name for a variable or argument: `name`, or `name_` where Python or the emitted code has another use for it."""
    return f"{name}_" if iskeyword(name) or name in _USED else name


def field(name: str) -> str:
    """A name for an argument of `__init__` that may be stored on the module."""
    name = local(name)
    return name if is_attribute(name) and name not in _USED_TO_MAKE else f"{name.strip('_')}_"


def is_attribute(label: str) -> bool:
    """Whether `self.LABEL` is a fit way to hold a module; other labels are kept in the dictionaries of the module."""
    taken = _MODULE | _FOLDED | _OWN
    return label.isidentifier() and not iskeyword(label) and label not in taken and not label.startswith("_")


def path(inner: str) -> str:
    """How what a module holds is reached from it: `blocks.0.conv.weight` is `.blocks[0].conv.weight`."""
    if not inner:
        return ""
    *modules, leaf = inner.split(".")
    steps = [f"[{part}]" if part.isdigit() else _attribute("modules", part) for part in modules]
    return "".join([*steps, _attribute("parameters", leaf)])


def _attribute(kind: str, label: str) -> str:
    return f".{label}" if is_attribute(label) else f'._{kind}["{label}"]'


def camel(name: str) -> str:
    """`multi_axis` becomes `MultiAxis`."""
    text = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", name) if part)
    return text if text.isidentifier() and not iskeyword(text) else f"Block{text}"


def snake(name: str) -> str:
    """`MultiAxis` becomes `multi_axis`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def singular(name: str) -> str:
    """What one of `blocks` is called: `block`; other words stay."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    if name.endswith(("ches", "shes", "sses", "xes")):
        return name[:-2]
    if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 2:
        return name[:-1]
    return name


def numbered(name: str, free: Callable[[str], bool]) -> str:
    """The first free one of `name`, `name2`, `name3` ..."""
    count, candidate = 1, name
    while not free(candidate):
        count += 1
        candidate = f"{name}_{count}" if name[-1].isdigit() else f"{name}{count}"
    return candidate
