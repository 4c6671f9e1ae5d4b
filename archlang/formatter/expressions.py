"""Documents for expressions and types."""

from itertools import pairwise
from typing import cast

from archlang import syntax
from archlang.formatter.layout import Align, Doc, Fill, Group, Line, Nest, Suffix, breaks, flattened
from archlang.formatter.places import HARD, Places, filled
from archlang.syntax import Argument, Expr, Syntax

SHORT = 24  # arrows stand under the first arrow if what flows is not longer
EXPRESSION, TERNARY, DISJUNCTION, NEGATION, COMPARISON, UNARY, POSTFIX = 0, 1, 2, 4, 5, 10, 12
LEVELS = {"or": 2, "and": 3, "in": 5, "|": 6, "&": 7, "+": 8, "-": 8, "**": 11}
LEVELS |= dict.fromkeys(("==", "!=", "<=", ">=", "<", ">", "~"), COMPARISON) | dict.fromkeys(("*", "/", "//", "%"), 9)


def quote(value: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(char, char) for char in value) + '"'


def pattern(node: syntax.Pattern) -> str:
    return ", ".join(item.id if isinstance(item, syntax.Name) else f"({pattern(item)})" for item in node.items)


def binding(node: Syntax) -> int:
    """How tightly an expression binds, as in the grammar: loosest is 0."""
    if isinstance(node, syntax.Pipe | syntax.Named):
        return EXPRESSION
    if isinstance(node, syntax.IfElse):
        return TERNARY
    if isinstance(node, syntax.Binary):
        return LEVELS[node.op]
    if isinstance(node, syntax.Unary):
        return NEGATION if node.op == "not" else UNARY
    return POSTFIX


def stage_level(node: Expr) -> int:
    return EXPRESSION if isinstance(node, syntax.Named) else POSTFIX


class Expressions(Places):
    def any(self, node: Syntax) -> Doc:
        """The document of any node but a statement's body."""
        return cast("Doc", getattr(self, f"on_{type(node).__name__.lower()}")(node))

    def expr(self, node: Syntax, least: int = EXPRESSION, operand: bool = False) -> Doc:
        """An expression where a form of level `least` may stand: in parentheses if it must be, or was as an operand."""
        level = binding(node)
        if level < least or (operand and level < POSTFIX and self.enclosed(node.span)):
            return ["(", Align(self.any(node)), ")"]
        return self.any(node)

    def on_name(self, node: syntax.Name) -> Doc:
        return node.id

    def on_number(self, node: syntax.Number) -> Doc:
        return node.text

    def on_string(self, node: syntax.String) -> Doc:
        return quote(node.value)

    def on_constant(self, node: syntax.Constant) -> Doc:
        return {True: "true", False: "false", None: "none"}[node.value]

    def on_argument(self, node: Argument) -> Doc:
        return [f"{node.name} = " if node.name else "", self.expr(node.value)]

    def on_list(self, node: syntax.List) -> Doc:
        return self.listed("[", node.items, "]")

    def on_comprehension(self, node: syntax.Comprehension) -> Doc:
        iterable = self.expr(node.iterable, TERNARY)
        return ["[", Align([self.expr(node.value), " for ", pattern(node.targets), " in ", iterable]), "]"]

    def on_call(self, node: syntax.Call) -> Doc:
        return [self.expr(node.function, POSTFIX), self.listed("(", node.arguments, ")")]

    def on_index(self, node: syntax.Index) -> Doc:
        return [self.expr(node.value, POSTFIX), self.listed("[", node.subscripts, "]")]

    def on_subscript(self, node: syntax.Subscript) -> Doc:
        return [f"{node.axis} = " if node.axis else "", self.expr(node.value, TERNARY)]

    def on_slice(self, node: syntax.Slice) -> Doc:
        parts = [self.expr(part, TERNARY) if part else "" for part in (node.start, node.stop)]
        return [parts[0], ":", parts[1], [":", self.expr(node.step, TERNARY)] if node.step else ""]

    def on_attribute(self, node: syntax.Attribute) -> Doc:
        number = isinstance(node.value, syntax.Number)  # `5.c` would be a malformed number
        return [self.expr(node.value, POSTFIX + number), f".{node.name}"]

    def on_unary(self, node: syntax.Unary) -> Doc:
        return [node.op, " " * (node.op == "not"), self.expr(node.operand, binding(node), operand=True)]

    def on_binary(self, node: syntax.Binary) -> Doc:
        level = LEVELS[node.op]
        if node.op == "**":
            return [self.expr(node.left, POSTFIX, True), " ** ", self.expr(node.right, UNARY, True)]
        return Align(Fill(self.terms(node, level)))

    def terms(self, node: syntax.Binary, level: int) -> list[Doc]:
        """The operands of a chain of operators of one level, each with the operator after it."""
        left = node.left
        chained = isinstance(left, syntax.Binary) and LEVELS[left.op] == level != COMPARISON
        if chained and not self.enclosed(left.span):
            *terms, last = self.terms(cast("syntax.Binary", left), level)
        else:
            terms, last = [], self.expr(left, level + (level == COMPARISON), operand=True)
        return [*terms, [last, f" {node.op}"], self.expr(node.right, level + 1, operand=True)]

    def on_ifelse(self, node: syntax.IfElse) -> Doc:
        then, condition = (self.expr(part, DISJUNCTION, True) for part in (node.then, node.condition))
        return Group(Align([then, " if ", condition, " else", Line(), self.expr(node.otherwise, TERNARY, True)]))

    def on_named(self, node: syntax.Named) -> Doc:
        return [self.expr(node.value, POSTFIX), f" as {node.label}"]

    def on_pipe(self, node: syntax.Pipe) -> Doc:
        """Arrows under the first arrow, or on lines of their own; where it does not fit, the user's breaks are kept."""
        first, *arrows = [self.expr(stage, stage_level(stage), operand=True) for stage in node.stages]
        items: list[Doc] = [first]
        starts = set()
        for i, (left, right) in enumerate(pairwise(node.stages)):
            same_line, own_lines, breaks = self.before_arrow(left.span.end, right.span.start)
            items[-1] = [items[-1], same_line]
            items.append([*own_lines, "-> ", arrows[i]])
            if breaks:
                starts.add(i)
        if 0 in starts or len(flattened(first)) > SHORT:
            return Group([items[0], Nest([Line(), Fill(items[1:], frozenset(starts))])])
        return Group([items[0], " ", Align(Fill(items[1:], frozenset(starts)))])

    def before_arrow(self, left: int, right: int) -> tuple[Doc, list[Doc], bool]:
        """Between two stages: the comment beside the left one, those on lines of their own, whether the line breaks."""
        arrow = self.after(left)
        while arrow.kind != "_ARROW":
            arrow = self.after(arrow.end)
        comments = self.take(left, right)
        beside = [token for token in comments[:1] if "\n" not in self.text[left : token.start]]
        own: list[Doc] = [piece for token in comments[len(beside) :] for piece in (token.text.rstrip(), HARD)]
        suffix: Doc = Suffix(f"  {beside[0].text.rstrip()}") if beside else ""
        return suffix, own, bool(comments) or "\n" in self.text[left : arrow.start]

    def on_match(self, node: syntax.Match) -> Doc:
        return Group(["match ", self.expr(node.subject, TERNARY), " ", self.braced(node.arms, ", ")])

    def on_arm(self, node: syntax.Arm) -> Doc:
        return [self.expr(node.pattern, TERNARY), " => ", self.expr(node.value)]

    def on_scan(self, node: syntax.Scan) -> Doc:
        carries = filled([self.any(carry) for carry in node.carries])
        return Group(["scan ", self.expr(node.order, POSTFIX), " carry ", carries, " ", self.braced(node.body)])

    def on_carry(self, node: syntax.Carry) -> Doc:
        return [self.on_port(node.port), " = ", self.expr(node.value, TERNARY)]

    # ---- types
    def on_signature(self, node: syntax.Signature) -> Doc:
        inputs = self.listed("(", node.inputs, ")")
        if node.results is None:
            return inputs
        only = node.results[0]
        results = self.listed("(", node.results, ")") if only.name else self.on_type(only.type)
        return [inputs, Nest(Nest([Line(), "-> ", results]))]

    def on_port(self, node: syntax.Port) -> Doc:
        return [node.name, ": ", self.on_type(node.type)]

    def on_type(self, node: syntax.Type) -> Doc:
        axes = self.listed("[", node.axes, "]")
        return [node.dtype or "", axes if breaks(axes) else flattened(axes), "?" * node.optional]

    def on_axis(self, node: syntax.Axis) -> Doc:
        role = f": {node.role}" if node.role else ""
        return [node.name, role, [" = ", self.expr(node.size, TERNARY)] if node.size else ""]

    def on_pack(self, node: syntax.Pack) -> Doc:
        return f"..{node.name}"
