"""Whole networks with kernels: they compute what they do without, carry on where no kernel runs, and say what is taken."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import archlang
from archlang.testing.networks import random_inputs
from tests.kernels.test_basis_linear import CURVE, ONE
from tests.kernels.test_decode_attention import CAPPED
from tests.kernels.test_delta_rule import ALL as DELTAS
from tests.kernels.test_linear_cross_entropy import EACH as LOSS
from tests.kernels.test_near_attention import NEIGHBORS
from tests.kernels.test_recurrence_steps import ALL as STEPS
from tests.kernels.test_scan import CELL
from tests.kernels.test_window_attention import MAP, TWO
from tests.toys import Toy, all_toys

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
GOLDEN = Path(__file__).parent.parent / "golden/kernels"
TEXTS = {
    "neighborhood": NEIGHBORS,
    "decode": CAPPED,
    "cell": CELL,
    "deltas": DELTAS,
    "steps": STEPS,
    "curves": ONE.replace("BASIS", "bspline"),
    "windows": TWO.replace("over =", "segments = doc, sink = 1, over ="),
    "waves": CURVE.replace("BASIS", "fourier(3)"),
    "loss": LOSS,
}
TOYS = {toy.name: toy for toy in all_toys()}
SMALL: dict[str, dict[str, Any]] = {
    "swin": {"dim": 4, "depths": [2], "heads": [1], "window": 3, "resolution": 24, "classes": 3},
    "kat": {},
    "dinat": {"dim": 4, "depths": [1], "farthest": [2], "resolution": 24, "classes": 3},
    "gpt_oss": {"depth": 2},
    "convnext": {"dims": [4], "depths": [1], "resolution": 8},
    "maxvit_digits": {"dims": [4, 4, 4, 4], "head_dim": 4, "stem": 4},
}


def network(toy: Toy) -> Any:
    settings = {**toy.settings, **SMALL.get(toy.name, {})}
    return archlang.load(EXAMPLES / f"{toy.file}.arch").architecture(toy.model, toy.variant, settings)


@pytest.mark.parametrize(
    "name",
    [
        "swin",
        "kat",
        "mamba",
        "llama",
        "gpt_oss",
        "convnext",
        "gla",
        "retnet",
        "mixtral",
        "delta_net",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("maxvit_digits", "dinat", "delta_product", "vmamba", "mossformer")
        ),
    ],
)
def test_both_targets_agree(name: str) -> None:
    made = network(TOYS[name])
    plain, fused = (made.module(seed=0, target=target).eval() for target in ("torch", "triton"))
    assert list(plain.state_dict()) == list(fused.state_dict())
    inputs = random_inputs(made, {"b": 1, "t": 9, "n": 10})
    inputs = {port: x.float() if x.is_floating_point() else x for port, x in inputs.items()}
    found, meant = fused(**inputs), plain(**inputs)
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=1e-5)
    for x in (found, meant):
        x.sum().backward()
    for (label, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=label)


LOOP = """
block cell(dim: int)(x: [b, t, c]) -> [b, t, c] {
  hidden = scan t carry hidden: [b, c = dim] = 0, most: [b, c = dim] = 0 {
    most = maximum(most, x)
    hidden = tanh(hidden -> rational(2) as act) * x - most
    yield hidden
  }
  return hidden
}
model net { input x: [b, t, c = 4]
output y = x -> cell(4) as cell }
"""


def test_a_scan_that_stays_a_loop_has_kernels_in_its_body() -> None:
    made = archlang.loads(LOOP).net()
    assert "self.act = TritonGroupRational(" in made.source("triton")
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    plain, fused = (made.module(seed=0, target=target) for target in ("torch", "triton"))
    torch.testing.assert_close(fused(x), plain(x))


@pytest.mark.parametrize("name", ["swin", "kat", "gla", "delta_net", "mixtral", *TEXTS])
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    """`--update-golden` writes them anew; read the difference before you commit it."""
    made = network(TOYS[name]) if name in TOYS else archlang.loads(TEXTS[name], f"{name}.arch").architecture()
    text, file = made.source("triton"), GOLDEN / f"{name}.py"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")
    for command in (["format", "--diff"], ["check", "--select", "F,I"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", str(file)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


ALONE = """
import sys
{hidden}
import torch, swin
x = torch.randn(1, 3, 24, 24)
net = swin.Swin().eval()
assert swin.triton is {expected}
net(x).sum().backward()
exported = torch.export.export(net, (x,))
torch.testing.assert_close(exported.module()(x), net(x))
"""


@pytest.mark.parametrize("there", [True, False], ids=["Triton", "no Triton"])
def test_without_a_gpu_the_pytorch_forms_run(there: bool, tmp_path: Path) -> None:
    (tmp_path / "swin.py").write_text(network(TOYS["swin"]).source("triton"), "utf-8")
    text = ALONE.format(
        hidden="" if there else "sys.modules['triton'] = None", expected="sys.modules['triton']" if there else "None"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_explain_says_what_is_taken() -> None:
    said = network(TOYS["swin"]).explain(target="triton")
    assert "kernel window_attention: windows by address, without copies; in PyTorch cut into cells of 3 x 3" in said
    assert "no kernel" not in archlang.loads(MAP).net().explain(target="triton")
    text = "model net {\n  input q: [b, t, c = 8]\n  output y = attend(q, q, q, over = OVER)\n}"
    said = archlang.loads(text.replace("OVER", "sliding(3)")).net().explain(target="triton")
    assert "kernel near_attention: tiles of queries walk the keys that they see, without copies" in said
    said = archlang.loads(text.replace("OVER", "sliding(3), position = alibi")).net().explain(target="triton")
    assert "kernel near_attention" in said
    for over in ("chunks(3), on = t, score = sigmoid, cap = 5", "causal, score = relu(power = 2)"):
        assert "kernel near_attention" in archlang.loads(text.replace("OVER", over)).net().explain(target="triton")
    said = archlang.loads(text.replace("OVER", "causal")).net().explain(target="triton")
    assert "no kernel: softmax over all keys has a fused kernel in torch" in said
    said = network(TOYS["gla"]).explain(target="triton")
    assert "kernel linear_recurrence: chunks in one pass, the state in registers" in said
    assert "kernel selective_scan: one pass along time" in network(TOYS["mamba"]).explain(target="triton")
    said = network(TOYS["delta_net"]).explain(target="triton")
    assert "kernel delta_rule: triangular systems inverted side by side" in said and "no kernel" not in said
    assert "no kernel" not in archlang.loads(DELTAS).net().explain(target="triton")


def test_what_no_kernel_takes_is_plain_pytorch() -> None:
    text = "model net {\n  input q: [b, t, c = 8]\n  output y = attend(q, q, q)\n}"
    assert archlang.loads(text).net().source("triton") == archlang.loads(text).net().source()


def test_auto_asks_for_a_gpu() -> None:
    made = network(TOYS["swin"])
    name = "attend_in_windows"
    assert hasattr(sys.modules[type(made.module(target="auto")).__module__], name) == torch.cuda.is_available()
    assert made.source("auto") == made.source("triton")


def test_no_such_target() -> None:
    with pytest.raises(archlang.ArchError, match="there is no target `cuda`"):
        network(TOYS["swin"]).source("cuda")
