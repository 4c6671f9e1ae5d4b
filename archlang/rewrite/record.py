"""What passes did and did not do, tied to the source."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from archlang.analysis.cost import amount
from archlang.analysis.determined import is_determined
from archlang.ir import Graph, Kept, Node, Value, WeightOf
from archlang.sizes import Size, compare, substitute, total
from archlang.source import BUILTIN, Span


@dataclass(frozen=True, slots=True)
class Event:
    """One place at which a rule held, or was refused for a `reason`. `saved` are the bytes of values that are no longer
    made, in one forward pass.
    """

    stage: str  # the pass
    rule: str
    graph: str  # the block that it is in
    span: Span
    reason: str = ""
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    saved: Size = 0

    @property
    def place(self) -> str:
        """`net.arch:12`, where it is in the source."""
        return "" if self.span == BUILTIN else f"{self.span.source.name}:{self.span.position[0]}"

    def as_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        saved = self.saved if isinstance(self.saved, int) else str(self.saved)
        facts = {"pass": self.stage, "rule": self.rule, "block": self.graph, "place": self.place, "saved_bytes": saved}
        return {**facts, "refused": self.reason, "removed": list(self.removed), "added": list(self.added)}


@dataclass(slots=True)
class Record:
    """The events of one run of the pipeline, in order. With `evaluates`, what weights determine is worked out once, and
    is no value of a forward pass.
    """

    evaluates: bool = False
    stage: str = ""
    events: list[Event] = field(default_factory=list)
    refusals: set[Event] = field(default_factory=set)

    def fired(
        self, rule: str, graph: Graph, root: Node, gone: Iterable[Node], made: Iterable[Node], spared: Size = 0
    ) -> None:
        """A rule held: these nodes went, and those came; `spared` are bytes that others no longer copy."""
        gone, made = [n for n in gone if n.types], [n for n in made if n.types]
        before, after = (_varying(graph, nodes) if self.evaluates else nodes for nodes in (gone, made))
        saved = spared + _bytes(before) - _bytes(after)
        removed, added = (tuple(describe(graph, node) for node in nodes) for nodes in (gone, made))
        self.events.append(Event(self.stage, rule, graph.name, root.span, "", removed, added, saved))

    def take(self, trial: "Record") -> bool:
        """Take over what a trial did, and say whether it did anything."""
        if held := any(not event.reason for event in trial.events):
            self.events += [event for event in trial.events if event not in self.refusals]
            self.refusals |= trial.refusals
        return held

    def trial(self) -> "Record":
        """A record of what may be given up again."""
        return Record(self.evaluates, self.stage)

    def refused(self, rule: str, graph: Graph, root: Node, reason: str) -> None:
        """A rule did not hold; said once, however often it is tried."""
        event = Event(self.stage, rule, graph.name, root.span, reason)
        if event not in self.refusals:
            self.refusals.add(event)
            self.events.append(event)


def report(events: Sequence[Event]) -> list[str]:
    """The events by rule, as lines: how often it held and what that saves, and where; where not, and why."""
    lines = []
    for name, found in _grouped(events, lambda event: f"{event.stage}: {event.rule}").items():
        held = [event for event in found if not event.reason]
        if held:
            places = f"{len(held)} {'place' if len(held) == 1 else 'places'}"
            lines.append(f"{name}, {places}{_worth(total(event.saved for event in held))}")
            lines += [f"    {where}" for where in _grouped(held, _where)]
        for where, reason in _grouped(found, lambda event: (_where(event), event.reason)):
            lines += [f"{name}, refused", f"    {where}: {reason}"] if reason else []
    return lines


def _worth(saved: Size) -> str:
    """What is made less, or more, for one sample."""
    a_sample = substitute(saved, {"b": 1})
    if a_sample == 0:
        return ""
    more = (compare(a_sample, 0) or 0) < 0
    return f", {amount(-a_sample if more else a_sample)} bytes of values a sample {'more' if more else 'less'}"


def _where(event: Event) -> str:
    return f"{event.graph}{f'  ({event.place})' if event.place else ''}"


def _grouped(events: Iterable[Event], key: Callable[[Event], Any]) -> dict[Any, list[Event]]:
    groups: dict[Any, list[Event]] = {}
    for event in events:
        groups.setdefault(key(event), []).append(event)
    return groups


def difference(events: Iterable[Event]) -> list[str]:
    """What events removed and added, each under its place in the source."""
    lines = []
    for event in (event for event in events if not event.reason):
        lines.append(f"{event.place or event.graph}: {event.rule}, in {event.graph}")
        lines += [f"  - {line}" for line in event.removed] + [f"  + {line}" for line in event.added]
    return lines


def _varying(graph: Graph, nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes that inputs have a part in."""
    return (node for node in nodes if not is_determined(graph, Value(graph, node.id, 0, node.types[0])))


def _bytes(nodes: Iterable[Node]) -> Size:
    """Of values; weights are there anyway."""
    made = (node for node in nodes if not isinstance(node.op, WeightOf))
    return total(type_.bytes for node in made for type_ in node.types)


def describe(graph: Graph, node: Node) -> str:
    """A node in one line: `norm1 = batch_norm(eps = 0.001)(conv1)`."""
    operands = ", ".join(_called(graph, value) for _, value in graph.operands(node))
    op = node.op.op if isinstance(node.op, Kept) else node.op
    return f"{_called(graph, Value(graph, node.id, 0, node.types[0]))} = {op}({operands})"


def _called(graph: Graph, value: Value) -> str:
    """What a reader calls a value: its name, the label of what made it, or the operation."""
    node = graph.producer(value)
    leaf = f".{node.op.leaf}" if isinstance(node.op, WeightOf) else ""
    return graph.name_of(value) or (node.label and f"{node.label}{leaf}") or node.op.name
