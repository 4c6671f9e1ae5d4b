"""Where code that makes tensors gets their dtype and device from."""

from typing import TYPE_CHECKING

from archlang.emit import names
from archlang.shapes import is_float

if TYPE_CHECKING:
    from archlang.emit.forward import Forward


def common(body: "Forward", attribute: str, floating: bool) -> str | None:
    """`x.dtype` or `x.device` of an input (read at the top), else of a weight."""
    if attribute in body.witnesses:
        return body.witnesses[attribute][0]
    for (_, value), variable in zip(body.graph.inputs.items(), body.draft.signature, strict=False):
        if is_float(value.type.dtype) or not floating:
            name = body.scope.fix(attribute)
            body.witnesses[attribute] = (name, f"{name} = {variable}.{attribute}")
            return name
    weight = of_weights(body, floating)
    return weight and f"{weight}.{attribute}"


def of_weights(body: "Forward", floating: bool = True) -> str | None:
    """How the first weight is reached."""
    found = (path for path, param, _ in body.graph.weights() if is_float(param.dtype) or not floating)
    return next((_weight(body, path) for path in found), None)


def _weight(body: "Forward", path: str) -> str:
    """How `forward` reaches a weight at a path."""
    labels = (own for _, node in body.graph.deep() if (own := node.label))
    label = next((own for own in labels if path == own or path.startswith(f"{own}.")), path)
    return body.draft.reach(label) + names.path(path[len(label) :].strip("."))
