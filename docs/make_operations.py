"""Writes docs/operations.md from what the compiler knows: `python -m docs.make_operations`."""

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

import archlang
from archlang import syntax
from archlang.analysis.cost import cost
from archlang.ir import Graph
from archlang.parser import parse
from archlang.primitive import Construct, Primitive, describe
from archlang.primitives import CONSTRUCTS, FAMILIES
from archlang.primitives.score import SCORES
from archlang.source import Source

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/operations.md"
INTRO = """\
# Operations

`python -m docs.make_operations` writes this page from the compiler itself, and a test holds it up to date.
[language.md](language.md#layers-are-values) says how calls are written.

An operation is shown as `name(hyper-parameters)(inputs)`. `?` marks what may be left out, `*` any number of tensors;
`a` and `b` are tensors or numbers. A hyper-parameter of kind `sizes` is an int for every axis, or an axis map
`[h = 1, w = 7]`; `units` is an int, or the axes to make; `axes` are names of axes or roles: `c`, `[h, w]`, `space`.
`NAME = ..` stands for keywords that name axes.

The examples are compiled for the inputs below. *Mixes* are the axes along which a result depends on several positions,
*weights* what the `state_dict` holds.

```arch
INPUTS
```
"""
INPUTS = """\
input x: [b, n = 16, c = 64]
input image: [b, h = 32, w = 32, c = 3]
input text: [b, t, c = 64]
input q: [b, n = 16, heads = 4, c = 16]
input ids: int[b, k = 4]
input node: [n = 16, c = 64]
input source: int[e]
input target: int[e]"""
TITLES = {
    "linear": "Linear maps and contractions",
    "pointwise": "Operators",
    "elementwise": "Element by element",
    "activation": "Activations",
    "reduction": "Reductions and sums along an axis",
    "cross_entropy": "Losses",
    "shape": "Axes",
    "rearrange": "Splitting and merging axes",
    "padding": "Borders",
    "shift": "Groups of channels that move",
    "fitting": "Maps that windows do not divide",
    "indexing": "Indices",
    "index": "Positions as data",
    "values": "Numbers as tensors",
    "conv": "Convolutions",
    "conv_transpose": "Transposed convolutions",
    "pool": "Pools",
    "norm": "Norms",
    "norm_length": "Norms by length",
    "resample": "Resampling",
    "unfold": "Windows as an axis",
    "embedding": "Embeddings",
    "noise": "Noise of training, and scale",
    "gradient": "Where gradients end",
    "mixture": "Layers side by side",
    "routing": "Routing",
    "attention": "Attention",
    "domain": "Domains",
    "near": "Domains that move with the query",
    "segments": "Documents",
    "position": "Positions: tables",
    "position_mlp": "Positions: biases computed from offsets",
    "position_bucket": "Positions: biases by distance",
    "position_rotary": "Positions: rotations",
    "position_scaling": "Positions: rotations that reach further",
    "position_embedding": "Positions: sinusoids",
    "partition": "Cells of a partition",
    "order": "Orders over a map",
    "sequence": "Maps in sequence",
    "kan": "Bases of univariate functions",
    "kan_rational": "Rational activations",
    "recurrence": "Linear recurrences",
    "gated_sum": "Gated sums",
    "selective_scan": "State space models",
    "recurrent": "Recurrent layers",
    "complex": "Complex numbers",
    "long_conv": "Long convolutions",
    "fft": "Fourier transforms",
    "spectral": "Time and frequency",
    "solve": "Linear systems",
    "lti": "Linear systems in time",
    "init": "Initialisations",
    "init_random": "Initialisations that draw",
}
WORDS = {
    "near": "domain",
    "init_random": "init",
    "position_scaling": "scaling",
}  # for what a family has, if not its name
# Operations that are more often written as operators of the language: the first of several is computed.
OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "mod": "%",
    "div": "/",
    "floordiv": "//",
    "pow": "**",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
EXAMPLES = {
    **{name: f"x {sign} 2" for name, sign in OPERATORS.items()},
    "linear": "x -> linear([heads = 8, c = 32])",
    "dot": "dot(x, rename(x, n = m), on = c)",
    "logical_and": "x > 0 and x < 1",
    "logical_or": "x < 0 or x > 1",
    "logical_not": "not (x > 0)",
    "maximum": "maximum(x, 0)",
    "minimum": "minimum(x, 0)",
    "neg": "-x",
    "clamp": "x -> clamp(0, 1)",
    "cast": "x -> cast(bfloat16)",
    "where": "where(x > 0, x, 0)",
    "softmax": "x -> softmax(on = c)",
    "log_softmax": "x -> log_softmax(on = c)",
    **{name: f"x -> {name}(on = n)" for name in FAMILIES["reduction"].split()},
    "all": "(x > 0) -> all(on = n)",
    "any": "(x > 0) -> any(on = n)",
    "mean": "image -> mean(on = space)",
    "cross_entropy": "cross_entropy(x[n = :4] -> rename(n = k), ids)",
    "rename": "rename(x, c = n, n = c)",
    "expand": "expand(x, heads = 8)",
    "concat": "concat([x, x], on = c)",
    "stack": "stack([x, x], axis = pair)",
    "split": "x -> split([16, 48], on = c)",
    "slice": "x[n = 0::2]",
    "select": "x[n = -1]",
    "rearrange": 'image -> rearrange("h -> h p, w -> w q, p q -> n", p = 8, q = 8)',
    "pad": "image -> pad([h = [0, 1], w = 2])",
    "pad_to_fit": "image -> pad_to_fit(windows(7))",
    "crop": "crop(image -> pad_to_fit(windows(7)), image)",
    "roll": "image -> roll([h = 3, w = 3])",
    "shift": "image -> shift([-1, 0, 1], on = w)",
    "axial_shift": "image -> linear(20) -> axial_shift",
    "mix_shift": "image -> linear(20) -> mix_shift",
    "flip": "image -> flip(on = w)",
    "gather": "x[n = ids]",
    "scatter": "scatter(x[n = ids], n = ids, size = 16, on = k)",
    "label_dropout": "ids -> label_dropout(0.1, null = 9)",
    "count": "count(n = ids, size = 16)",
    "top_k": "x -> top_k(4, on = n)",
    "sort": "x -> sort(on = n)",
    "argsort": "x -> argsort(on = n)",
    "one_hot": "ids -> one_hot(axis = c, size = 10)",
    "index": "index(n = 16)",
    "values": "values([1, 2, 1], on = taps)",
    "conv": "image -> conv(8, stride = 2)",
    "depthwise": "image -> depthwise(kernel = [h = 1, w = 7])",
    "conv_transpose": "image -> conv_transpose(8, kernel = 2, stride = 2)",
    "max_pool": "image -> max_pool(2)",
    "avg_pool": "image -> avg_pool(3, stride = 2)",
    "adaptive_avg_pool": "image -> adaptive_avg_pool([h = 7, w = 1])",
    "adaptive_max_pool": "image -> adaptive_max_pool(7)",
    "batch_norm": "image -> batch_norm",
    "group_norm": "x -> group_norm(8)",
    "resize": "image -> resize(scale = 2)",
    "space_to_depth": "image -> space_to_depth",
    "pixel_unshuffle": "image -> pixel_unshuffle",
    "depth_to_space": "image -> conv(12) -> depth_to_space",
    "pixel_shuffle": "image -> conv(12) -> pixel_shuffle",
    "unfold": "image -> unfold(3)",
    "fold": "image -> unfold(3) -> fold([h = 32, w = 32], kernel = 3)",
    "embedding": "ids -> embedding(1000, 64)",
    "dropout": "x -> dropout(0.1)",
    "drop_path": "x -> drop_path(0.1)",
    "stochastic_depth": "x -> stochastic_depth(0.1)",
    "mixture": "mixture(x, ids, cast(ids, float), layers = [mlp(2), mlp(4)], on = k)",
    "each": "q -> each(heads, linear(8))",
    "load_balance": "load_balance(softmax(x, on = c), argsort(x, on = c), on = c)",
    "limit_load": "limit_load(ids, experts = 4, capacity = 1.25, on = k)",
    "attend": "attend(q, q, q, position = relative)",
    "fourier": "x -> fourier(4)",
    "gated_sum": "gated_sum(text, sigmoid(text))",
    "linear_recurrence": "linear_recurrence(q, l2_norm(q), q, decay = sigmoid(q))",
    "same_segment": "same_segment(ids, on = k)",
    "selective_scan": "selective_scan(text, softplus(text), -expand(exp(index(n = 64)), c = 64),"
    " rename(text, c = n), rename(text, c = n))",
    "lstm": "text -> lstm(32)",
    "gru": "x -> gru(32, bidirectional = true)",
    "complex": "complex(x, x)",
    "real": "real(complex(x, x))",
    "imag": "imag(complex(x, x))",
    "long_conv": "long_conv(x, node)",
    "fft": "x -> fft(on = [n, c])",
    "ifft": "x -> fft(on = n) -> ifft(on = n)",
    "rfft": "image -> rfft(on = [h, w])",
    "irfft": "image -> rfft(on = [h, w]) -> irfft(on = [h, w])",
    "stft": "x -> stft(size = 8, hop = 4)",
    "istft": "x -> stft(size = 8, hop = 4) -> istft(size = 8, hop = 4)",
    "lti_scan": "lti_scan(text, dt = exp(node[n = 0]), a = -exp(rename(node, n = s)), read = rename(node, n = s))",
    "solve": "solve(q, q, on = [n, c])",
    "krylov": "krylov(rename(q, c = m), x, x, on = [n, m], axis = t, size = 8)",
    "s4d": "text -> s4d(8)",
    "mamba": "text -> mamba",
    "mamba2": "text -> mamba2(head_dim = 32)",
    "ss2d": "image -> ss2d",
    "sequence": "sequence(image, over = snake(h, w))",
    "unsequence": "unsequence(x, over = along(h, w), h = 4, w = 4)",
    "within": "image -> within(windows(4), linear(8))",
    "partition": "image -> partition(windows(4))",
    "unpartition": "unpartition(image -> partition(windows(4)), image, over = windows(4))",
    "relative": "relative(q, q)",
    "distance": "distance(q, q)",
    "log_cpb": "log_cpb(q, q)",
    "dynamic_bias": "dynamic_bias(q, q, hidden = 16)",
    "alibi": "alibi(q, q)",
    "t5_buckets": "t5_buckets(q, q)",
    "rope": "q -> rope(on = n)",
    "sinusoid": "sinusoid(x, on = n)",
    # the standard library
    "short_conv": "text -> short_conv",
    "causal_linear_attention": "text -> causal_linear_attention(heads = 8)",
    "retention": "text -> retention(heads = 8)",
    "lightning": "text -> lightning(heads = 8)",
    "simple_rms_norm": "x -> simple_rms_norm",
    "gla": "text -> gla(heads = 4)",
    "hgrn2": "text -> hgrn2(heads = 8)",
    "delta_net": "text -> delta_net(heads = 8)",
    "gated_delta_net": "text -> gated_delta_net(heads = 4, head_dim = 16)",
    "gated_delta_product": "text -> gated_delta_product(heads = 4, head_dim = 16)",
    "slow_decay": "text -> slow_decay(heads = 8)",
    "self_attention": "x -> self_attention(heads = 8)",
    "causal_attention": "text -> causal_attention(heads = 8, kv_heads = 2)",
    "cross_attention": "x -> cross_attention(heads = 8, memory = text)",
    "mlp": "x -> mlp",
    "glu_mlp": "x -> glu_mlp(128)",
    "swiglu": "x -> swiglu(128)",
    "pre_norm_layer": "x -> pre_norm_layer(self_attention(8), mlp(4))",
    "post_norm_layer": "x -> post_norm_layer(self_attention(8), mlp(4))",
    "mixed_norm_layer": "text -> mixed_norm_layer(causal_attention(8), swiglu(128))",
    "conv_bn": "image -> conv_bn(8)",
    "conv_stem": "image -> conv_stem(64)",
    "blur_pool": "image -> blur_pool",
    "standard_conv": "image -> standard_conv(8)",
    "squeeze_excite": "x -> squeeze_excite(16)",
    "channel_attention": "x -> channel_attention(heads = 8)",
    "efficient_channel_gate": "image -> efficient_channel_gate",
    "channel_space_gate": "image -> channel_space_gate(2)",
    "energy_gate": "image -> energy_gate",
    "sincos": "x -> max(on = [n, c]) -> sincos(32)",
    "timestep_embedding": "x -> max(on = [n, c]) -> timestep_embedding(32)",
    "fourier_features": "x -> fourier_features(32)",
    "film": "x -> film(cond = x[n = 0])",
    "modulate": "x -> modulate(shift = x[n = 0], scale = x[n = 1])",
    "adaptive_norm": "x -> adaptive_norm(cond = x[n = 0])",
    "adaptive_layer": "x -> adaptive_layer(linear(64), linear(64), cond = x[n = 0])",
    "sincos_2d": "image -> conv(64) -> sincos_2d",
    "kernel_sums": "kernel_sums(relu(q), relu(q), q)[0]",
    "relu_attention": "x -> relu_attention(heads = 8)",
    "simplified_linear_attention": "image -> simplified_linear_attention(heads = 1)",
    "rank_augmented_attention": "x -> rank_augmented_attention(heads = 8)",
    "gated_linear_scan": "image -> conv(64) -> gated_linear_scan(heads = 2)",
    "hopfield": "hopfield(x, x, x, heads = 8, key = 16)",
    "hopfield_pooling": "x -> hopfield_pooling(8, key = 16)",
    "hopfield_layer": "x -> hopfield_layer(8, key = 16, patterns = 32)",
    "normalised_sum": "normalised_sum(node, source, target)",
    "gcn_layer": "gcn_layer(node, source, target, dim = 32)",
    "gin_layer": "gin_layer(node, source, target, mlp = linear(32))",
    "gine_layer": "gine_layer(node, node[n = source], source, target, mlp = linear(32))",
    "neighbour_softmax": "neighbour_softmax(rename(node, c = heads)[n = source], node, target)",
    "gat_layer": "gat_layer(node, source, target, dim = 32, heads = 4)",
    "gated_gcn": "gated_gcn(node, node[n = source], source, target)[0]",
    "mbconv": "image -> mbconv(32, stride = 2)",
    "inverted_residual": "image -> inverted_residual(16)",
    "convnext_block": "image -> convnext_block",
    "double_conv": "image -> double_conv(16)",
    "unet_down": "image -> unet_down(16)",
    "unet_up": "unet_up(image -> max_pool(2), image, dim = 16)",
    "class_relative": "class_relative(8, height = 14)",
    "conditional_position": "image -> conditional_position",
    "lepe_attention": "image -> conv(8) -> lepe_attention(heads = 2, over = windows(4))",
    "patch_embed": "image -> patch_embed(96)",
    "patchify": "image -> patchify(64, patch = 8)",
    "patch_merge": "image -> patch_merge",
    "kan": "x -> kan(32)",
    "learned_activation": "x -> learned_activation(rbf)",
    "gr_kan": "x -> gr_kan",
    "generated_linear": "generated_linear(x, x -> mean(on = n), units = 32)",
    "cond_conv": "image -> cond_conv(8)",
    "dynamic_depthwise": "image -> linear(16) -> dynamic_depthwise",
    "involution": "image -> linear(16) -> involution(groups = 4)",
    "token_mlp": "x -> token_mlp(32)",
    "mixer_layer": "x -> mixer_layer(32)",
    "spatial_gating": "x -> spatial_gating",
    "gmlp_layer": "x -> gmlp_layer",
    "raft_mixing": "image -> linear(16) -> raft_mixing(2)",
    "mixer_gating": "x -> mixer_gating(128)",
    "pattention": "x -> pattention(64)",
    "ranked_attention": "x -> ranked_attention(8)",
    "top_tokens": "top_tokens(x, mean(x, on = c), keep = 8)",
    "moe": "x -> moe(mlp(4), experts = 8, top = 2)",
    "top_softmax": "x -> top_softmax(8)",
    "top_sigmoid": "x -> top_sigmoid(8)",
    "expert_choice": "x -> expert_choice(mlp(4))",
    "soft_moe": "x -> soft_moe(mlp(4))",
    "residual": "x -> residual(layer_norm -> linear(64))",
}
KINDS = {
    "_whole": "int",
    "_number": "float",
    "_operand": "float",
    "_per_axis": "sizes",
    "_units": "units",
    "_axis_name": "axis",
    "_degrees": "list[int]",
    "_steps": "list[int]",
    "_numbers": "list",
    "bool": "bool",
    "str": "str",
    "Domain": "domain",
    "_scaling": "scaling",
}  # by the validator, or the type, of a field
BY_NAME = {
    "position": "position",
    "init": "init",
    "init_bias": "init",
    "softplus_inverse.start": "init",
    "dtype": "dtype",
    "mode": "str",
    "score": "score",
    "padding": "str or sizes",
    "parts": "int or list[int]",
    "axes": "axes",
    "over": "order",
    "scale": "float",
    "amounts": "sizes",
    "shift": "sizes",
    "size": "sizes",
}


def page() -> str:
    """The text of docs/operations.md."""
    used = {block.name: file for file, blocks in library().items() for block in blocks}
    graphs = examples(used)
    parts = [INTRO.replace("INPUTS", INPUTS)]
    for name in TITLES:
        parts.append(family(name, graphs))
        if name == "attention":
            parts.append(table("Scores", "score | is", SCORES.values(), graphs))
    parts += ["## The standard library\n", "Each is used by name: `use std.attention: self_attention`.\n"]
    parts += [standard(file, blocks, graphs) for file, blocks in library().items()]
    return "\n".join(parts)


# ---- the examples, compiled
def examples(used: dict[str, str]) -> dict[str, Graph]:
    """A network for the example of every operation and block, by name."""
    names = [name for name in [*CONSTRUCTS, *used] if is_layer(name)]
    uses = [f"use std.{file}: {name}" for name, file in used.items()]
    models = [f"model {name}_example {{\n{INPUTS}\n{outputs(name)}\n}}" for name in names]
    program = archlang.loads("\n".join([*uses, *models]), "operations.arch")
    return {name: program.architecture(f"{name}_example").graph for name in names}


def outputs(name: str) -> str:
    if name in ("split", "top_k", "top_softmax", "top_sigmoid", "ranked_attention"):
        return f"first, second = {example(name)}\noutput made = first\noutput more = second"
    return f"output made = {example(name)}"


def is_layer(name: str) -> bool:
    return name not in CONSTRUCTS or issubclass(CONSTRUCTS[name], Primitive)


def example(name: str) -> str:
    """The example of an operation; a call without arguments needs none."""
    return EXAMPLES.get(name, f"x -> {name}")


def facts(graph: Graph) -> str:
    """What an example makes, mixes and weighs."""
    node = graph.producer(graph.outputs[0][1])
    said = [makes(graph)]
    if mixed := sorted(node.op.mixes(*graph.input_types(node))):
        said.append(f"mixes {', '.join(map(code, mixed))}")
    if weights := graph.params(node):
        said.append(
            "weights " + ", ".join(code(f"{leaf} [{', '.join(map(str, p.shape))}]") for leaf, p in weights.items())
        )
    return "; ".join(said)


def makes(graph: Graph) -> str:
    return ", ".join(code(str(value.type)) for _, value in graph.outputs)


# ---- operations
def family(name: str, graphs: dict[str, Graph]) -> str:
    """A table of the operations of a family, and what more there is to say about each."""
    classes = [CONSTRUCTS[word] for word in FAMILIES[name].split()]
    if issubclass(classes[0], Primitive):
        return table(TITLES[name], "operation | is | for example", classes, graphs)
    return table(TITLES[name], f"{WORDS.get(name, name)} | is", classes, graphs)


def table(title: str, head: str, classes: Iterable[type[Construct]], graphs: dict[str, Graph]) -> str:
    """What there is of a kind, and what more there is to say about each."""
    rule = "|---" * (head.count("|") + 1)
    rows = [row(cls, graphs) for cls in classes]
    notes = [f"**`{cls.name}`.** {rest}\n" for cls in classes if (rest := doc(cls)[1])]
    return "\n".join([f"## {title}\n", f"| {head} |\n{rule}|", *rows, "", *notes])


def row(cls: type[Construct], graphs: dict[str, Graph]) -> str:
    cells = [code(signature(cls)), doc(cls)[0]]
    if issubclass(cls, Primitive):
        cells.append(f"{code(example(cls.name))}: {facts(graphs[cls.name])}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def doc(cls: type[Construct]) -> tuple[str, str]:
    """The formula on one line, and the paragraphs behind it."""
    first, _, rest = (inspect.getdoc(cls) or "").partition("\n\n")
    return " ".join(first.split()), rest


def signature(cls: type[Construct]) -> str:
    hypers = ", ".join(hyper(cls))
    inputs = cls.inputs if issubclass(cls, Primitive) else ()
    if {"a?", "b?"} <= set(inputs):  # one of the two may be a number
        inputs = tuple(port.strip("?") for port in inputs)
    ports = f"({', '.join(inputs)})" if inputs else ""
    return f"{cls.name}{f'({hypers})' if hypers else ''}{ports}"


def hyper(cls: type[Construct]) -> Iterator[str]:
    """The hyper-parameters as the language declares them: `kernel: sizes = 3`."""
    for name in cls.kinds():
        info = cls.model_fields[name]
        if name in ("left", "right"):  # an operand that is a number
            continue
        if (keyword := KEYWORDS.get((cls.name, name), KEYWORDS.get(("", name)))) is not None:
            yield from keyword
            continue
        default = "" if info.is_required() or info.default is None else f" = {value(info.default)}"
        optional = "?" if info.default is None else ""
        yield f"{name}: {kind_of(cls, name, info)}{optional}{default}"
    if issubclass(cls, Primitive) and cls.sequential:
        yield "over: order?"


KEYWORDS = {
    ("gather", "axis"): ["NAME = index"],
    ("scatter", "axis"): ["NAME = index"],
    ("count", "axis"): ["NAME = index"],
    ("index", "axis"): ["NAME = size"],
    ("index", "size"): [],
    ("", "sizes"): ["NAME = size"],
    ("", "names"): ["NAME = new, .."],
}


def kind_of(cls: type[Construct], name: str, info: FieldInfo) -> str:
    """The kind of a hyper-parameter, in the words of the language."""
    words = [word(item) for item in parts(info.annotation, info.metadata)]
    if cls.kinds()[name] == "axes":
        return "axis" if "_axis_name" in words else "axes"
    found = [KINDS[w] for w in words if w in KINDS]
    return BY_NAME.get(f"{cls.name}.{name}") or next(iter(found), "") or BY_NAME.get(name, "value")


def parts(annotation: Any, metadata: Iterable[Any]) -> Iterator[Any]:
    """The pieces of an annotation: `Whole | None` has the validator of `Whole` inside."""
    yield from metadata
    yield annotation
    if get_origin(annotation) is Literal:
        yield str
    for part in get_args(annotation):
        yield from parts(part, getattr(part, "__metadata__", ()))


def word(item: Any) -> str:
    return getattr(getattr(item, "func", item), "__name__", "")


def value(default: Any) -> str:
    """A default as the language writes it."""
    if isinstance(default, tuple):
        return default[0] if len(default) == 1 else f"[{', '.join(map(str, default))}]"
    if isinstance(default, str) and default in ("c", "softmax", "sum", "taps"):
        return default
    return f"{default:g}" if isinstance(default, float) else describe(default)


def code(text: str) -> str:
    return f"`{text}`"


# ---- the standard library
def library() -> dict[str, list[syntax.Block]]:
    """The blocks of each file of the standard library."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "stdlib").glob("*.arch"))}
    return {
        file: [item for item in parse(Source(f"std.{file}", text)).items if isinstance(item, syntax.Block)]
        for file, text in texts.items()
    }


def standard(file: str, blocks: list[syntax.Block], graphs: dict[str, Graph]) -> str:
    about = parse(Source(file, (ROOT / f"stdlib/{file}.arch").read_text("utf-8"))).doc or ""
    return "\n".join(
        [
            f"### std.{file}\n",
            f"{' '.join(about.split())}\n",
            *(entry(block, graphs[block.name]) for block in blocks),
            "",
        ]
    )


def entry(block: syntax.Block, graph: Graph) -> str:
    text = block.span.source.text[block.name_span.start : block.signature.span.end]
    said = [code(" ".join(text.split()).replace(") (", ")("))]
    if block.doc:
        said.append(" ".join(block.doc.split()))
    said.append(f"For example {code(example(block.name))}: {makes(graph)}; {cost(graph).params:,} parameters.")
    return f"- {'<br>'.join(said)}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
