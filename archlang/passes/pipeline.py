"""The list of passes, and how they run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from archlang.diagnostics import error, suggest
from archlang.ir import Graph, Scan
from archlang.passes import constants, layout, losses, numbers, parallel, recurrence, simplify, twins, views
from archlang.passes.options import Options, Purpose
from archlang.rewrite import Event, Record, Rule, difference, rewrite

ALL: tuple[Purpose, ...] = ("training", "inference", "decoding")
WHOLE: tuple[Purpose, ...] = ("training", "inference")  # what sees sequences whole
EVALUATION = ALL[1:]
Change = Callable[[Graph, Record], Graph]  # a pass that is no set of rules


class RulesOf(Sequence[Rule]):
    """The `RULES` of modules of this package, which are imported when they are asked for."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    @cached_property
    def _rules(self) -> Sequence[Rule]:
        return [rule for name in self._modules for rule in import_module(f"archlang.passes.{name}").RULES]

    def __getitem__(self, index: Any) -> Any:
        return self._rules[index]

    def __len__(self) -> int:
        return len(self._rules)


def window_order(graph: Graph, record: Record) -> Graph:
    """Attention in cells finds their places side by side: one permutation before, and one behind."""
    if not any(node.op.name == "attend" for part in graph.children_first() for node in part):
        return graph
    from archlang.passes import cells  # knows attention, which not every network has

    return cells.window_order(graph, record)


def _opened(graph: Graph) -> Graph:
    """Blocks that are linear in their input, as what they compute."""
    from archlang.passes import blocks

    return blocks.opened(graph)


def grouped_experts(graph: Graph, record: Record) -> Graph:
    """The layers of experts that are alike, as one product each."""
    from archlang.passes import experts

    return experts.grouped_experts(graph, record)


def top_k_routing(graph: Graph, record: Record) -> Graph:
    """Routers of experts, as one step each."""
    from archlang.passes import routing

    return routing.top_k_routing(graph, record)


def fused_curves(graph: Graph, record: Record) -> Graph:
    """linear(basis(x)) = basis_linear(x), dot(basis(x), weight) = basis_curve(x)"""
    from archlang.passes import curves

    return curves.fused_curves(graph, record)


def lifted(graph: Graph, record: Record) -> Graph:
    """What no carry of a scan touches, for all positions at once."""
    if not any(type(node.op) is Scan for part in graph.children_first() for node in part):
        return graph
    from archlang.passes import lifted as found

    return found.lifted(graph, record)


def fused_scans(graph: Graph, record: Record) -> Graph:
    """A scan whose body is pointwise, one position after another in one kernel."""
    from archlang.passes import scans

    return scans.fused_scans(graph, record)


def pointwise_chains(graph: Graph, record: Record) -> Graph:
    """f(g(x)), for each element or row at once."""
    from archlang.passes import chains

    return chains.pointwise_chains(graph, record)


def grouped_chains(graph: Graph, record: Record) -> Graph:
    """What follows layers of experts, in their kernel."""
    from archlang.passes import grouped_chains as found

    return found.grouped_chains(graph, record)


def _chosen(options: Options) -> Sequence[Rule]:
    """The rules that follow a record of `archlang tune`; none without one."""
    if not options.tuned:
        return ()
    from archlang.passes import choose

    return choose.rules(options)


@dataclass(frozen=True, slots=True)
class Pass:
    """One step: rules that are applied wherever they hold, then changes of whole graphs."""

    name: str
    rules: Sequence[Rule] = ()
    changes: Sequence[Change] = ()
    purposes: tuple[Purpose, ...] = ALL
    opened: Callable[[Graph], Graph] | None = None  # what the rules see across the borders of blocks
    kernels: bool | None = None  # whether it runs where kernels are written, or only where none are
    by_options: Callable[[Options], Sequence[Rule]] | None = None  # rules that depend on them

    @property
    def names(self) -> list[str]:
        """What `disable` may name: the pass, its rules and its changes."""
        return [self.name, *(rule.name for rule in self.rules), *(change.__name__ for change in self.changes)]

    def is_wanted(self, options: Options) -> bool:
        """Whether it runs with these options."""
        fits = options.purpose in self.purposes and self.kernels in (None, options.kernels)
        return fits and self.name not in options.disable

    def run(self, graph: Graph, record: Record, options: Options) -> Graph:
        """The graph after this pass."""
        record.stage = self.name
        every = [*self.rules, *(self.by_options(options) if self.by_options else ())]
        rules = [rule for rule in every if rule.name not in options.disable]
        graph = rewrite(graph, rules, record, self.opened)
        for change in self.changes:
            if change.__name__ not in options.disable:
                graph = change(graph, record)
        return graph


def going_on(graph: Graph, record: Record) -> Graph:
    """Nothing changes: refuse what cannot go on where the last call stopped."""
    from archlang.analysis.decoding import check

    check(graph)
    return graph


PIPELINE: tuple[Pass, ...] = (
    Pass("evaluate", simplify.EVALUATION, (losses.no_losses,), purposes=EVALUATION),
    Pass(
        "simplify",
        (*simplify.RULES, *views.RULES, *numbers.RULES),
        (twins.common_subexpressions, simplify.no_dead_code),
    ),
    Pass("recurrences", recurrence.RULES, (lifted,)),
    Pass("experts", changes=(grouped_experts,), purposes=WHOLE, kernels=True),
    Pass("fold", RulesOf("fold", "branches"), purposes=EVALUATION, opened=_opened),
    Pass("fuse", changes=(parallel.parallel_projections,)),
    Pass("windows", changes=(window_order,), kernels=False),
    Pass("attention", RulesOf("attention"), purposes=EVALUATION, kernels=False),
    Pass("layout", RulesOf("causal"), (layout.channels_last,)),
    Pass("kernels", RulesOf("kernels"), (top_k_routing, fused_curves), kernels=True),
    Pass("scans", changes=(fused_scans,), purposes=WHOLE, kernels=True),
    Pass("chains", changes=(pointwise_chains, grouped_chains), kernels=True),
    Pass("constants", changes=(constants.constants_once,)),
    Pass("choose", by_options=_chosen),
    Pass("decode", changes=(going_on,), purposes=("decoding",)),
)


@dataclass(frozen=True, slots=True)
class Optimised:
    """A graph after the pipeline, what was done to it, and the graph after each pass that ran."""

    graph: Graph
    events: tuple[Event, ...] = ()
    stages: dict[str, Graph] = field(default_factory=dict)

    def stage(self, name: str) -> Graph:
        """The graph after a pass."""
        _need(name, list(self.stages), "pass")
        return self.stages[name]

    def changes(self, name: str) -> list[str]:
        """What a pass removed and added, by line of the source."""
        _need(name, list(self.stages), "pass")
        return difference(event for event in self.events if event.stage == name)


def optimise(graph: Graph, options: Options) -> Optimised:
    """Run the pipeline."""
    for name in options.disable:
        _need(name, [known for pass_ in PIPELINE for known in pass_.names], "pass or rule")
    record, stages = Record(options.evaluates), {}
    for pass_ in PIPELINE:
        if pass_.is_wanted(options):
            graph = stages[pass_.name] = pass_.run(graph, record, options)
    if options.budget is not None:
        from archlang.passes import recompute

        record.stage = "recompute"
        graph = stages["recompute"] = recompute.within(graph, options.budget, record)
    return Optimised(graph, tuple(record.events), stages)


def _need(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        raise error("A901", f"there is no {what} `{name}`", help=suggest(name, known) or f"one of {', '.join(known)}")
