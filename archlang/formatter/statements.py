"""Documents for statements and the items of a file."""

from collections.abc import Sequence

from archlang import syntax
from archlang.formatter.expressions import DISJUNCTION, POSTFIX, TERNARY, Expressions, pattern, quote
from archlang.formatter.layout import Doc, Group, Line, Nest
from archlang.formatter.places import docstring, filled
from archlang.syntax import Expr


def label(node: syntax.Label | None) -> str:
    if node is None:
        return ""
    return f" as {node.name}[{node.index}]" if node.index else f" as {node.name}"


class Statements(Expressions):
    # ---- items of a file
    def on_file(self, node: syntax.File) -> Doc:
        docs: list[tuple[int, int, Doc]] = [(item.span.start, item.span.end, self.any(item)) for item in node.items]
        if node.doc is not None:
            docs.insert(0, (self.tokens[0].start, self.tokens[0].end, docstring(node.doc)))
        return self.lines(docs, 0, len(self.text))

    def on_use(self, node: syntax.Use) -> Doc:
        return [
            "use ",
            quote(node.path) if node.relative else node.path,
            ": ",
            filled([name.id for name in node.names]),
        ]

    def on_foreign(self, node: syntax.Foreign) -> Doc:
        return [f"foreign {node.name} from {node.language} {quote(node.target)} ", self.on_signature(node.signature)]

    def on_block(self, node: syntax.Block) -> Doc:
        head = Group([f"block {node.name}", self.listed("(", node.hypers, ")"), self.on_signature(node.signature)])
        last = node.body[-1]
        if isinstance(last, syntax.Return) and last.span == last.values[0].span:
            return [head, self.equals(last.values[0])]
        return Group([head, " ", self.braced(node.body, doc=node.doc)])

    def on_model(self, node: syntax.Model) -> Doc:
        hypers = self.listed("(", node.hypers, ")") if node.hypers else ""
        return Group([f"model {node.name}", hypers, " ", self.braced(node.body, doc=node.doc)])

    def on_hyper(self, node: syntax.Hyper) -> Doc:
        kind = [": ", self.on_kind(node.kind)] if node.kind else ""
        return [node.name, kind, [" = ", self.expr(node.default)] if node.default else ""]

    def on_kind(self, node: syntax.Kind) -> str:
        item = f"[{self.on_kind(node.item)}]" if node.item else ""
        return f"{node.name}{item}{'?' * node.optional}"

    # ---- statements
    def equals(self, value: Expr) -> Doc:
        """`= value`, the value on a line of its own where it does not fit."""
        if isinstance(value, syntax.Match | syntax.Scan):
            return [" = ", self.expr(value)]
        return Group([" =", Nest([Line(), self.expr(value)])])

    def values(self, values: Sequence[Expr]) -> Doc:
        return filled([self.expr(value) for value in values]) if len(values) > 1 else self.expr(values[0])

    def on_bind(self, node: syntax.Bind) -> Doc:
        return [", ".join(target.id for target in node.targets), " = ", self.values(node.values)]

    def on_return(self, node: syntax.Return) -> Doc:
        return ["return ", self.values(node.values)]

    def on_yield(self, node: syntax.Yield) -> Doc:
        return ["yield ", self.values(node.values)]

    def on_repeat(self, node: syntax.Repeat) -> Doc:
        return Group(["repeat ", self.expr(node.count, TERNARY), label(node.label), " ", self.braced(node.body)])

    def on_for(self, node: syntax.For) -> Doc:
        head = ["for ", pattern(node.targets), " in ", self.expr(node.iterable, TERNARY), label(node.label)]
        return Group([*head, " ", self.braced(node.body)])

    def on_if(self, node: syntax.If) -> Doc:
        return Group(self.branches(node))

    def branches(self, node: syntax.If) -> Doc:
        """All branches in one group: all of them on one line, or each body on its own."""
        then: list[Doc] = ["if ", self.expr(node.condition, TERNARY), " ", self.braced(node.then)]
        if not node.otherwise:
            return then
        first = node.otherwise[0]
        if isinstance(first, syntax.If) and self.before(first.span.start).kind == "ELSE":
            return [*then, " else ", self.branches(first)]
        return [*then, " else ", self.braced(node.otherwise)]

    def on_require(self, node: syntax.Require) -> Doc:
        condition = self.expr(node.condition, TERNARY)
        return ["require ", condition if node.message is None else filled([condition, quote(node.message)])]

    def on_declare(self, node: syntax.Declare) -> Doc:
        return [f"{node.word} ", self.on_port(node.port), [" = ", self.expr(node.value)] if node.value else ""]

    def on_loss(self, node: syntax.Loss) -> Doc:
        return [f"loss {node.name}", self.equals(node.value)]

    def on_input(self, node: syntax.Input) -> Doc:
        return ["input ", self.on_port(node.port)]

    def on_output(self, node: syntax.Output) -> Doc:
        return [f"output {node.name}", [": ", self.on_type(node.type)] if node.type else "", self.equals(node.value)]

    def on_exit(self, node: syntax.Exit) -> Doc:
        kind = [": ", self.on_type(node.type)] if node.type else ""
        return [f"exit {node.name}", kind, " = ", self.expr(node.value), " when ", self.expr(node.condition, TERNARY)]

    def on_variant(self, node: syntax.Variant) -> Doc:
        base = f" of {node.base}" if node.base else ""
        return Group([f"variant {node.name}{base} ", self.braced(node.settings, ", ")])

    def on_setting(self, node: syntax.Setting) -> Doc:
        return [node.name, " = ", self.expr(node.value)]

    def on_expect(self, node: syntax.Expect) -> Doc:
        return ["expect ", filled([self.on_fact(fact) for fact in node.facts])]

    def on_fact(self, node: syntax.Fact) -> Doc:
        single = len(node.settings) == 1 and node.settings[0].name is not None
        point = self.any(node.settings[0]) if single else self.listed("[", node.settings, "]")
        return [
            self.expr(node.condition, DISJUNCTION),
            f" for {node.variant}" if node.variant else "",
            [" at ", point] if node.settings else "",
        ]

    def on_checkpoint(self, node: syntax.Checkpoint) -> Doc:
        return Group([f"checkpoint {node.name} ", self.braced(node.entries)])

    def on_entry(self, node: syntax.Entry) -> Doc:
        return [self.expr(node.ours, POSTFIX), " = ", self.expr(node.theirs, TERNARY)]
