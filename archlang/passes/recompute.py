"""Blocks that keep nothing for the backward pass, but are made again in it, so that training fits a budget of memory.

A choice says for every run of calls how many of them, from the first, are made again: their backward passes come last,
when all others have given back what they kept. Choices are weighed by the bytes that they save and the work that they
repeat, those of a block being those of the blocks in it; of the choices that save the most for their work, the one with
the least work is taken whose peak of memory, worked out anew, is within the budget.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from archlang.analysis.cost import cost
from archlang.analysis.memory import Memories, amount_of
from archlang.analysis.memory_walk import Held, Place
from archlang.diagnostics import error, suggest
from archlang.ir import Call, Graph, Node, Rebuild
from archlang.passes.options import Budget
from archlang.rewrite import Event, Record
from archlang.sizes import Size, substitute, symbols, total

MOST = 64  # choices that are weighed at once
INNER = 16  # of those inside a block


@dataclass(frozen=True, slots=True)
class Mark:
    """Of a run of calls: how many are made again, from the first, and what is chosen inside of their graphs."""

    base: str
    count: int
    inner: tuple[tuple[str, "Choice"], ...] = ()  # by digest


@dataclass(frozen=True, slots=True)
class Choice:
    """What is made again: the bytes that it saves, the work that it costs."""

    saved: float = 0
    work: float = 0
    marks: tuple[Mark, ...] = ()

    def and_(self, other: "Choice") -> "Choice":
        return Choice(self.saved + other.saved, self.work + other.work, (*self.marks, *other.marks))


@dataclass(frozen=True, slots=True)
class _Site:
    """A call with what it holds, what its operands are, and the work of it."""

    node: Node
    held: Held
    places: tuple[Place, ...]
    work: float
    sizes: Mapping[str, Size]

    @property
    def graph(self) -> Graph:
        assert isinstance(self.node.op, Call)
        graph: Graph = self.node.op.graph
        return graph

    @property
    def saved(self) -> float:
        """What it keeps, but for the inputs that it would keep instead."""
        instead = total(place.type.bytes for i, place in enumerate(self.places) if i not in self.held.reads)
        return _number(self.held.kept - instead, self.sizes)


def within(graph: Graph, budget: Budget, record: Record) -> Graph:
    """The graph with as little made again as the budget allows."""
    return _Plan(graph, budget).run(record)


class _Plan:
    def __init__(self, graph: Graph, budget: Budget) -> None:
        self.graph, self.budget = graph, budget
        self.sizes = dict(budget.sizes)
        self.run_ = Memories()
        self._peaks: dict[Choice, float] = {}
        self._known: dict[tuple[str, tuple[Place, ...]], list[Choice]] = {}
        self._works: dict[str, float] = {}

    def run(self, record: Record) -> Graph:
        _need_sizes(self.graph, self.sizes)
        if self.peak(Choice()) <= self.budget.bytes:
            return self.graph
        found = self._least_work()
        if found is None:
            raise self._refusal()
        record.events += _events(self.graph, found)
        return _applied(self.graph, found)

    # ---- choices
    @cached_property
    def choices(self) -> list[Choice]:
        """Those of the whole network, the least work first."""
        return self._choices(self.graph, self.run_.places(self.graph, self.sizes), MOST)

    def _choices(self, graph: Graph, given: tuple[Place, ...], most: int) -> list[Choice]:
        key = graph.digest, given
        if key not in self._known:
            found = [Choice()]
            for base, sites in self._runs(graph, given).items():
                found = _best((a.and_(b) for a in found for b in self._options(base, sites)), most)
            self._known[key] = found
        return self._known[key]

    def _work(self, graph: Graph) -> float:
        """The multiply-accumulates of a block; one where it has none."""
        if graph.digest not in self._works:
            self._works[graph.digest] = 1 + _number(cost(graph).macs, self.run_.means | self.sizes)
        return self._works[graph.digest]

    def _runs(self, graph: Graph, given: tuple[Place, ...]) -> dict[str, list[_Site]]:
        """The calls of each list of modules, and of each module alone."""
        runs: dict[str, list[_Site]] = {}
        for node, held, places in self.run_.calls(graph, given):
            if node.label and not node.label.startswith("@") and any(output.grad for output in held.outputs):
                assert isinstance(node.op, Call)
                site = _Site(node, held, places, self._work(node.op.graph), self.run_.means | self.sizes)
                runs.setdefault(node.label.partition(".")[0], []).append(site)
        return runs

    def _options(self, base: str, sites: Sequence[_Site]) -> list[Choice]:
        """What may be made again of a run: nothing, parts of its blocks, its first few, all and their parts."""
        found, saved, work = [Choice()], 0.0, 0.0
        inner = self._inside(sites)
        found += [Choice(each.saved, each.work, (Mark(base, 0, each.marks[0].inner),)) for each in inner]
        for count, site in enumerate(sites, 1):
            saved, work = saved + site.saved, work + site.work
            found.append(Choice(saved, work, (Mark(base, count),)))
        if inner:
            most = inner[-1]
            found.append(Choice(saved + 1, work + most.work, (Mark(base, len(sites), most.marks[0].inner),)))
        return found

    def _inside(self, sites: Sequence[_Site]) -> list[Choice]:
        """What may be made again inside of all the blocks of a run; equal ones alike."""
        groups: dict[str, list[_Site]] = {}
        for site in sites:
            groups.setdefault(site.graph.digest, []).append(site)
        found = [Choice(marks=(Mark("", 0),))]
        for digest, same in groups.items():
            own = self._choices(same[0].graph, same[0].places, INNER)
            times = len(same)
            found = _best(
                (
                    Choice(
                        a.saved + b.saved * times,
                        a.work + b.work * times,
                        (Mark("", 0, (*a.marks[0].inner, *([(digest, b)] if b.marks else []))),),
                    )
                    for a in found
                    for b in own
                ),
                INNER,
            )
        return found[1:]

    # ---- the choice
    def peak(self, choice: Choice) -> float:
        """The bytes of training with a choice."""
        if choice not in self._peaks:
            estimate = self.run_.estimate(_applied(self.graph, choice), self.sizes)
            self._peaks[choice] = _number(estimate.training, self.sizes)
        return self._peaks[choice]

    def _least_work(self) -> Choice | None:
        """The first choice that fits: peaks fall as more is saved, up to what making again needs itself."""
        low, high = 0, len(self.choices) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.peak(self.choices[middle]) <= self.budget.bytes else (middle + 1, high)
        fitting = [choice for choice in self.choices[: low + 1] if self.peak(choice) <= self.budget.bytes]
        if not fitting:
            fitting = [choice for choice in self.choices if self.peak(choice) <= self.budget.bytes]
        return min(fitting, key=lambda choice: (choice.work, -choice.saved), default=None)

    def _refusal(self) -> Exception:
        least = min(self.choices, key=lambda choice: (self.peak(choice), choice.work))
        whole = _number(cost(self.graph).macs, self.run_.means | self.sizes)
        at = "".join(f", {name} = {size}" for name, size in self.budget.sizes)
        return error(
            "A817",
            f"training needs {amount_of(self.peak(Choice()))}{at}, and may hold {amount_of(self.budget.bytes)}",
            help=f"{amount_of(self.peak(least))} is the least, with {100 * least.work / whole:.0f} % of the forward"
            " pass made again; or a smaller batch",
        )


def _need_sizes(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Refuse a budget for sizes that are not known, or not there."""
    free = {name: None for value in graph.inputs.values() for axis in value.type for name in sorted(symbols(axis.size))}
    for name in free:
        if name not in sizes:
            raise error(
                "A901", f"the memory of the network depends on `{name}`", help=f"say how large: `--at {name}=8`"
            )
    for name in sizes:
        if name not in free:
            raise error("A901", f"the network has no free size `{name}`", help=suggest(name, free))


def _number(size: Size, sizes: Mapping[str, Size]) -> float:
    """A size with all free sizes known."""
    return float(substitute(substitute(size, sizes), sizes))  # type: ignore[arg-type]


def _best(choices: Iterable[Choice], most: int) -> list[Choice]:
    """Those that nothing betters in both, the least work first, thinned evenly."""
    found: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.work, -choice.saved)):
        if not found or choice.saved > found[-1].saved:
            found.append(choice)
    if len(found) <= most:
        return found
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def _applied(graph: Graph, choice: Choice) -> Graph:
    """The graph with the calls of a choice made again."""
    if not choice.marks:
        return graph
    marks, rebuild, seen = {mark.base: mark for mark in choice.marks}, Rebuild(graph), dict[str, int]()
    for node in graph:
        base = (node.label or "").partition(".")[0]
        mark = marks.get(base) if isinstance(node.op, Call) else None
        if mark is None or not isinstance(node.op, Call):
            rebuild.copy(node)
            continue
        seen[base] = seen.get(base, 0) + 1
        inner = dict(mark.inner).get(node.op.graph.digest)
        body = node.op.graph if inner is None else _applied(node.op.graph, inner)
        rebuild.copy(node, node.op.model_copy(update={"graph": body, "recomputed": seen[base] <= mark.count}))
    return rebuild.finish()


def _events(graph: Graph, choice: Choice) -> Iterator[Event]:
    """What is made again, for `explain`."""
    calls: dict[str, list[Node]] = {}
    for node in graph:
        if isinstance(node.op, Call) and node.label:
            calls.setdefault(node.label.partition(".")[0], []).append(node)
    for mark in choice.marks:
        nodes = calls[mark.base]
        if mark.count:
            what = (
                f"{mark.base} made again"
                if mark.count == len(nodes)
                else f"{mark.base}: the first {mark.count} of {len(nodes)} made again"
            )
            yield Event("recompute", "recompute", graph.name, nodes[0].span, added=(what,))
        inside = {node.op.graph.digest: node.op.graph for node in nodes if isinstance(node.op, Call)}
        for digest, inner in mark.inner:
            yield from _events(inside[digest], inner)
