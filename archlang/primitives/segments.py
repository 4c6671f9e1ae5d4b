"""Documents packed on one axis."""

from dataclasses import replace
from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import AxisName, Emission, Primitive, Term, Types, need_named, register
from archlang.shapes import TensorType, axis


@register
class SameSegment(Primitive):
    """mask[.., i, j] = doc[.., i] == doc[.., j]: which positions of the axis `on` share a document; j is the axis
    `ON_key`.
    """

    name: ClassVar[str] = "same_segment"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("doc",)

    on: AxisName

    def infer(self, facts: Facts, doc: TensorType) -> TensorType:
        need_named(doc, (self.on,), "doc")
        return replace(doc.cast("bool"), axes=(*doc.axes, axis(f"{self.on}_key", doc.size(self.on), "free")))

    def emit(self, code: Emission, doc: Term) -> Term:
        doc = code.bind(code.last(doc, (self.on,)), "doc")
        return Term(f"{doc.safe}[..., None] == {doc.safe}[..., None, :]", (*doc.order, f"{self.on}_key"), tight=False)

    def reference(self, types: Types, doc: Named) -> Named:
        return doc.combine(doc.rename(**{self.on: f"{self.on}_key"}), lambda a, b: a == b)

    def mixes(self, doc: TensorType) -> frozenset[str]:
        return frozenset((self.on,))

    def looks_ahead(self, doc: TensorType) -> frozenset[str]:
        """A pair knows its two positions; what may see which is the domain's to say."""
        return frozenset()
