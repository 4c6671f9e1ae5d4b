"""Decoding on this CPU: a prompt and then one token after another, against transformers with its caches, in one run.

    python benchmarks/cpu_decode.py [--networks llama] [--prompt 512] [--tokens 64] [--samples 1] [--write FILE]

All have the same weights and choose the same tokens, which is checked. Rounds visit them in random order after one that
is not counted; a ratio is the median over rounds of (rival / archlang) times: above 1, archlang is faster. `recompute`
is the network for inference, given the whole sequence again for every token.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from report import machine, publish, table
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import archlang  # noqa: E402

ROUNDS, VOCAB, DIM, DEPTH = 5, 8000, 512, 8
Step = Callable[[Tensor], Tensor]  # the logits behind the tokens that are next
Start = Callable[[], Step]  # a new sequence


def llama() -> tuple[Any, Any]:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=1408, num_hidden_layers=DEPTH, num_attention_heads=8,
        num_key_value_heads=4, rms_norm_eps=1e-5, rope_theta=500000.0, initializer_range=0.1,
    )  # fmt: skip
    sizes = {"vocab": VOCAB, "dim": DIM, "depth": DEPTH, "heads": 8, "kv_heads": 4, "hidden": 1408}
    return archlang.load(ROOT / "examples/llama.arch").llama(**sizes), transformers.LlamaForCausalLM(config)


def mamba() -> tuple[Any, Any]:
    import transformers

    config = transformers.MambaConfig(
        vocab_size=VOCAB, hidden_size=DIM, state_size=16, num_hidden_layers=DEPTH, initializer_range=0.1
    )
    made = archlang.load(ROOT / "examples/mamba.arch").mamba_lm(vocab=VOCAB, dim=DIM, depth=DEPTH)
    return made, transformers.MambaForCausalLM(config)


def mamba2() -> tuple[Any, Any]:
    import transformers

    config = transformers.Mamba2Config(
        vocab_size=VOCAB, hidden_size=DIM, state_size=64, num_hidden_layers=DEPTH, head_dim=64, num_heads=16,
        n_groups=1, chunk_size=256, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    made = archlang.load(ROOT / "examples/mamba2.arch").mamba2_lm(vocab=VOCAB, dim=DIM, depth=DEPTH, state=64)
    return made, transformers.Mamba2ForCausalLM(config)


NETWORKS = {"llama": llama, "mamba": mamba, "mamba2": mamba2}


def contenders(network: Any, peer: Any) -> dict[str, Start]:
    """Ours first, all with the weights of the peer."""
    with TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        modules = [network.module(purpose=purpose) for purpose in ("decoding", "inference")]
        for module in modules:
            archlang.load_weights(module, Path(folder) / "model.safetensors", map="transformers")
    return {"archlang": ours(modules[0]), "transformers": theirs(peer), "recompute": again(modules[1])}


def ours(module: Any) -> Start:
    def start() -> Step:
        module.reset()
        return lambda tokens: module(tokens)[:, -1]

    return start


def theirs(peer: Any) -> Start:
    def start() -> Step:
        held: dict[str, Any] = {}

        def step(tokens: Tensor) -> Tensor:
            made = peer(tokens, use_cache=True, **held)
            held.update(
                {name: made[name] for name in ("past_key_values", "cache_params") if made.get(name) is not None}
            )
            return made.logits[:, -1]

        return step

    return start


def again(module: Any) -> Start:
    def start() -> Step:
        seen: list[Tensor] = []

        def step(tokens: Tensor) -> Tensor:
            seen.append(tokens)
            return module(torch.cat(seen, 1))[:, -1]

        return step

    return start


def decode(start: Start, prompt: Tensor, count: int) -> tuple[float, float, Tensor]:
    """Seconds for the prompt and for each token after it, and the tokens."""
    step, chosen = start(), []
    begun = time.perf_counter()
    tokens = step(prompt).argmax(-1, keepdim=True)
    read = time.perf_counter()
    for _ in range(count):
        chosen.append(tokens)
        tokens = step(tokens).argmax(-1, keepdim=True)
    return read - begun, (time.perf_counter() - read) / count, torch.cat(chosen, 1)


@torch.inference_mode()
def measure(name: str, prompt: Tensor, count: int, rounds: int) -> list[list[str]]:
    """A row for the prompt and one for tokens."""
    torch.manual_seed(0)
    starts = contenders(*NETWORKS[name]())
    counts = {rival: count if rival != "recompute" else min(count, 4) for rival in starts}
    meant = {rival: decode(start, prompt, counts[rival])[2] for rival, start in starts.items()}
    assert all(torch.equal(meant["archlang"][:, : counts[rival]], tokens) for rival, tokens in meant.items())
    times: dict[str, list[tuple[float, float]]] = {rival: [] for rival in starts}
    for _ in range(rounds):
        for rival in random.sample(list(starts), len(starts)):
            times[rival].append(decode(starts[rival], prompt, counts[rival])[:2])
    rows = []
    for place, (what, size) in enumerate((("prompt", prompt.numel()), ("tokens", len(prompt)))):
        own = [pair[place] for pair in times["archlang"]]
        ratios = [statistics.median(a[place] / b for a, b in zip(times[r], own, strict=True)) for r in list(starts)[1:]]
        rates = [size / statistics.median(pair[place] for pair in times[rival]) for rival in starts]
        rows.append([name, what, *(f"{rate:,.0f}" for rate in rates), *(f"x{ratio:.2f}" for ratio in ratios)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    prompt = torch.randint(0, VOCAB, (given.samples, given.prompt), generator=torch.Generator().manual_seed(1))
    rows = [row for name in given.networks for row in measure(name, prompt, given.tokens, given.rounds)]
    head = [
        "network",
        "part",
        "archlang, tokens/s",
        "transformers",
        "recompute",
        "transformers / archlang",
        "recompute / archlang",
    ]
    command = " ".join(["python benchmarks/cpu_decode.py", *sys.argv[1:]]).split(" --write")[0]
    about = f"{DIM} channels, {DEPTH} layers, float32; a prompt of {given.prompt}, then {given.tokens} tokens"
    parts = [f"`{command}`", f"{machine('torch', 'transformers')}; {about}", table(head, rows)]
    publish("\n\n".join(parts), given.write)


if __name__ == "__main__":
    main()
