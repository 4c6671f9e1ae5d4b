"""The operations of the language, one file per family. A name is found without importing the families that do not hold
it.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from archlang.primitive import _REGISTRY, Construct

FAMILIES = {
    "linear": "linear dot",
    "pointwise": "add sub mul mod div floordiv pow eq ne lt le gt ge logical_and logical_or maximum minimum",
    "elementwise": "exp log log2 log1p expm1 sqrt rsqrt sin cos tan erf reciprocal square neg sign floor ceil round abs"
    " clamp logical_not cast where",
    "activation": "relu relu6 sigmoid tanh silu swish gelu gelu_tanh quick_gelu selu mish softsign hard_sigmoid"
    " hard_swish hard_tanh leaky_relu elu celu softplus prelu softmax log_softmax glu",
    "reduction": "sum mean max min prod var std logsumexp norm entropy all any argmax argmin cumsum cumprod",
    "cross_entropy": "cross_entropy",
    "shape": "identity rename expand concat stack split slice select",
    "rearrange": "rearrange",
    "padding": "pad roll flip",
    "shift": "shift",
    "fitting": "pad_to_fit crop",
    "indexing": "gather scatter count top_k sort argsort",
    "index": "one_hot index",
    "values": "values",
    "conv": "conv depthwise",
    "conv_transpose": "conv_transpose",
    "pool": "max_pool avg_pool adaptive_avg_pool adaptive_max_pool",
    "norm": "layer_norm rms_norm batch_norm group_norm instance_norm",
    "norm_length": "l2_norm grn",
    "resample": "resize space_to_depth depth_to_space pixel_unshuffle pixel_shuffle",
    "unfold": "unfold fold",
    "embedding": "embedding",
    "mixture": "mixture each",
    "routing": "load_balance limit_load",
    "noise": "dropout drop_path stochastic_depth label_dropout layer_scale",
    "gradient": "stop_gradient",
    "domain": "full causal windows grid stripes axial",
    "near": "sliding neighborhood radius chunks",
    "attention": "attend",
    "partition": "partition unpartition",
    "order": "along snake hilbert",
    "sequence": "sequence unsequence",
    "gated_sum": "gated_sum",
    "recurrence": "linear_recurrence",
    "selective_scan": "selective_scan",
    "recurrent": "lstm gru",
    "complex": "complex real imag",
    "long_conv": "long_conv",
    "fft": "fft ifft rfft irfft",
    "spectral": "stft istft",
    "solve": "solve krylov",
    "lti": "lti_scan",
    "segments": "same_segment",
    "kan": "rbf rswaf chebyshev fourier bspline",
    "kan_rational": "rational",
    "position": "relative distance",
    "position_mlp": "log_cpb dynamic_bias",
    "position_bucket": "alibi t5_buckets",
    "position_rotary": "rope",
    "position_scaling": "position_interpolation ntk yarn llama3",
    "position_embedding": "sinusoid",
    "init": "zeros ones constant eye softplus_inverse hippo_legs_a hippo_legs_b",
    "init_random": "normal trunc_normal uniform log_uniform xavier_uniform xavier_normal kaiming kaiming_uniform"
    " kaiming_normal variance orthogonal",
}


class Constructs(Mapping[str, type[Construct]]):
    """All constructs by their name in the language; a family is imported when one of its names is asked for."""

    def __init__(self) -> None:
        self.families = {name: family for family, names in FAMILIES.items() for name in names.split()}

    def __getitem__(self, name: str) -> type[Construct]:
        if name not in _REGISTRY:
            import_module(f"archlang.primitives.{self.families[name]}")
        return _REGISTRY[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.families)

    def __len__(self) -> int:
        return len(self.families)

    def __contains__(self, name: object) -> bool:
        return name in self.families


CONSTRUCTS = Constructs()
