"""Tiles of kernels: what is tried, what is refused, who follows the record; the interpreter stands in for a GPU."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import archlang
from archlang import cli, kernel_tuner
from archlang.emit import triton
from archlang.kernel_tuner import Gpu, KernelTuning, calls, gpu, tune
from archlang.tuning import Case, Record, cases, configs, configurations, loads
from archlang.tuning.configs import MOST, parsed
from tests.kernels import emitted
from tests.kernels.test_networks import TEXTS, TOYS, network

NET = """
model net {
  input x: [b, c = 8]
  y = x -> rational(2) as act
  output z = (x + y) -> rms_norm as norm -> silu
}
"""
TEMPLATES = Path(__file__).parent.parent.parent / "codegen/triton"
CASE = Case("group_rational.forward", (("c", 4),), "float32")
SHIPPED = {"ROWS": 128, "COLUMNS": 4, "num_warps": 4}
RECORD = Record({"interpreter": {CASE: {"ROWS=128 COLUMNS=4 num_warps=4": 2.0, "ROWS=64 COLUMNS=4 num_warps=2": 1.0}}})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernel_tuner, "PRECISIONS", ("float32",))
    monkeypatch.setattr(kernel_tuner, "configurations", lambda shipped: configurations(shipped)[:3])
    Path("net.arch").write_text(NET)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments))


def measured(made: Any) -> KernelTuning:
    """All that there is to measure of a network."""
    tuning = KernelTuning(gpu(), calls([made], 2, "cpu"))
    assert list(tune(tuning, 600)) == tuning.calls
    return tuning


# ---- what is tried
@pytest.mark.parametrize(
    "shipped", [SHIPPED, {"ROWS": 32, "num_warps": 4, "num_stages": 1}, {"ROWS": 1, "COLUMNS": 4096, "num_warps": 16}]
)
def test_configurations(shipped: dict[str, int]) -> None:
    found = configurations(shipped)
    changes = [sum(config[name] != size for name, size in shipped.items()) for config in found]
    assert found[0] == shipped
    assert changes == sorted(changes) and max(changes) == 2
    for config in found:
        sides = {name: size for name, size in config.items() if name.isupper()}
        assert all(size >= min(16, shipped[name]) or shipped[name] < 16 for name, size in sides.items())
        assert all(config.get(name, 1) <= most for name, most in MOST.items())


def test_parts_of_kernels_have_their_names() -> None:
    """A record tells kernels from operations by the dot, and a file takes what its kernels are called."""
    asked = {file.name: re.findall(r'tile_shape\(f?"([^"]*)"', file.read_text()) for file in TEMPLATES.glob("*.j2")}
    for file, names in asked.items():
        assert all(name.startswith(f"{file.removesuffix('.py.j2')}.") for name in names), file


# ---- who follows the record
def test_an_emitted_file_takes_what_was_measured() -> None:
    said = archlang.loads(NET).architecture().source("triton", tuned=RECORD.text())
    assert "net tuned for interpreter" in said.splitlines()[0]
    assert (
        '    "interpreter | group_rational.forward c=4 float32": {"ROWS": 64, "COLUMNS": 4, "num_warps": 2}\n' in said
    )
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--isolated", "--line-length", "120", "-"]
    assert subprocess.run(ruff, input=said, capture_output=True, text=True).stdout == ""
    plain = emitted(NET)
    made = archlang.loads(NET).architecture().module(seed=0, target="triton", tuned=RECORD.text())
    file, x = sys.modules[type(made).__module__], torch.randn(3, 8)
    tuned = {"ROWS": 64, "COLUMNS": 4, "num_warps": 2}
    assert file.rational_call("forward", x, torch.empty(2, 6), False).items() >= tuned.items()
    file.tile_shape("group_rational.forward", x, {"c": 4}, **SHIPPED).clear()  # it is the caller's own
    assert file.tile_shape("group_rational.forward", x, {"c": 3}, **SHIPPED) == tuned
    others = [
        ("group_rational.backward", x, 4),
        ("group_rational.forward", x, 5),
        ("group_rational.forward", x.half(), 4),
    ]
    for kernel, given, c in others:
        assert file.tile_shape(kernel, given, {"c": c}, **SHIPPED) == SHIPPED
    assert file.tile_shape("group_rational.forward", x, {"c": 4}, LINES=8) == {"LINES": 8}, "of another version"
    assert plain.tile_shape("group_rational.forward", x, {"c": 4}, **SHIPPED) == SHIPPED
    torch.testing.assert_close(made(x), archlang.loads(NET).architecture().module(seed=0)(x))


def test_records_of_processors_and_gpus_are_one_file() -> None:
    both = Record({"Some 1-1 avx2 x2": {Case("linear", (("rows", 1), ("on", 1), ("units", 2))): {"plain": 1.0}}})
    both = both.merged(RECORD)
    assert loads(both.text()) == both
    assert both.device == "Some 1-1 avx2 x2" and list(both.gpus) == ["interpreter"]
    assert both.only("Some 1-1 avx2 x2") == both
    made = archlang.loads(NET).architecture()
    assert "tuned for Some 1-1 avx2 x2, interpreter" in made.source("triton", tuned=both.text()).splitlines()[0]
    assert "interpreter" not in made.source(tuned=both.text())


def test_a_record_of_kernels_says_nothing_of_processors() -> None:
    made = archlang.loads(
        "model net { input x: [b, n = 64, c = 2048]\noutput y = x -> linear(2048) as fc }"
    ).architecture()
    (_, plain), (_, told) = (made.source(purpose="inference", tuned=t).split("\n", 1) for t in ("", RECORD.text()))
    assert plain == told


@pytest.mark.parametrize("words", ["ROWS=48", "ROWS=x", "ROWS", "a b=2", "__import__('os')=2", "ROWS=0"])
def test_what_is_no_shape_of_tiles(words: str) -> None:
    wrong = Record({"interpreter": {CASE: {words: 1.0}}}).text()
    with pytest.raises(archlang.ArchError, match="is no shape of tiles"):
        archlang.loads(NET).architecture().source("triton", tuned=wrong)


def test_the_name_of_a_device_is_data() -> None:
    odd = Record({'a "GPU" \\': {CASE: {"ROWS=64 COLUMNS=4 num_warps=2": 1.0}}}).text()
    module = archlang.loads(NET).architecture().module(target="triton", tuned=odd)
    assert list(sys.modules[type(module).__module__].CONFIGS) == [f'a "GPU" \\ | {CASE}']


# ---- measuring
def test_tune_and_build(run: Callable[..., Any]) -> None:
    made = run("tune", "net.arch", "--target", "triton", "--batch", "3", "--format", "json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout) == {
        "ok": True,
        "device": "interpreter",
        "cases": 2,
        "measured": 2,
        "output": "tuning.json",
    }
    found = loads(Path("tuning.json").read_text()).devices["interpreter"]
    assert {case.op for case in found} == {f"{kernel}.{part}" for kernel in ("group_rational", "fused_add_rms_norm_silu") for part in ("forward", "backward")}  # fmt: skip
    assert all(len(times) == 3 for times in found.values())
    assert run("build", "net.arch", "--target", "triton", "--tuned", "tuning.json").exit_code == 0
    best = min(found[CASE], key=lambda name: found[CASE][name])
    assert (
        f'| {CASE}": {json.dumps({n: int(s) for n, s in (w.split("=") for w in best.split())})}'
        in Path("net.py").read_text()
    )


def test_what_is_measured_is_kept_when_it_is_stopped(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0, 1.0])

    def seconds(self: Gpu, call: Any) -> float:
        for time in times:
            return time
        raise KeyboardInterrupt

    monkeypatch.setattr(Gpu, "seconds", seconds)
    assert run("tune", "net.arch", "--target", "triton").exit_code == 130
    (found,) = loads(Path("tuning.json").read_text()).devices["interpreter"].values()
    assert list(found.values()) == [3e6, 1e6]


def test_when_the_time_is_over(run: Callable[..., Any]) -> None:
    made = run("tune", "net.arch", "--target", "triton", "--seconds", "0")
    assert made.exit_code == 0 and "0 of 2 kernels" in made.stdout
    assert loads(Path("tuning.json").read_text()) == Record({})


def test_without_a_gpu(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tuner, "_is_interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made = run("tune", "net.arch", "--target", "triton")
    assert (
        str(made.exception).splitlines()[0] == "error[A908]: kernels are measured on a GPU, and torch finds none here"
    )
    assert not Path("tuning.json").exists()


# ---- what is refused
MISCOMPILED = {
    "forward": ("(p / (1.0 + tl.abs(q)))", "(p * (1.01 if ROWS == 64 else 1.0) / (1.0 + tl.abs(q)))"),
    "backward": ("tl.store(grad_x + at, ", "tl.store(grad_x + at, (float('nan') if ROWS == 64 else 1.0) * "),
}


@pytest.mark.parametrize("part", MISCOMPILED)
def test_shapes_with_wrong_results_are_refused(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is wrong for some tiles, which would be the fastest of all."""
    monkeypatch.setattr(kernel_tuner, "PRECISIONS", ("float32",))
    monkeypatch.setattr(configs, "CHANGES", 1)
    written = triton.text
    monkeypatch.setattr(
        triton, "text", lambda kernel, **features: written(kernel, **features).replace(*MISCOMPILED[part])
    )
    tuning = measured(archlang.loads(NET).architecture())
    case = Case(f"group_rational.{part}", CASE.sizes)
    (refused,) = tuning.refused
    assert refused.startswith(f"{case}: ROWS=64 COLUMNS=4 num_warps=4 is off by {'nan' if part == 'backward' else '1'}")
    assert len(tuning.times[case]) == len(configurations(SHIPPED)) - 1
    assert not any("ROWS=64" in name for name in tuning.times[case])


def test_what_does_not_compile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.errors import TritonError

    def fits(self: Gpu, call: Any) -> bool:
        raise TritonError

    monkeypatch.setattr(Gpu, "fits", fits)
    tuning = measured(archlang.loads(NET).architecture())
    assert not any(tuning.times.values()) and not tuning.refused and tuning.record() == Record({"interpreter": {}})


FITS = """
import sys, torch, archlang
from archlang.kernel_tuner import Gpu
made = archlang.loads('model net { input x: [b, c = 512]\\n output z = (x + x) -> rms_norm as norm -> silu }').architecture().module(target="triton")
file, x = sys.modules[type(made).__module__], torch.empty(512, 512)
file.runs = lambda *x: True
print(Gpu("", "cuda", 80, 1).fits(lambda: made(x)), Gpu("", "cuda", 80, 163 * 1024).fits(lambda: made(x)))
file.tile_shape = lambda kernel, x, sizes, **shipped: {"ROWS": 16, "num_warps": 1}
print(Gpu("", "cuda", 80, 163 * 1024).fits(lambda: made(x)))
"""


@pytest.mark.slow
def test_what_spills_or_shares_too_much_does_not_fit() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", FITS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True", "False"]


NEAR = """
model net {
  input q: [b, t, heads = 2, c = 4]
  input m: [b, h = 4, w = 5, heads = 2, c = 4]
  output y = attend(q, q, q, over = causal & sliding(3))
  output z = attend(m, m, m, over = neighborhood(3), position = relative)
}
"""
NETS = {name: text for name, text in TEXTS.items() if name != "neighborhood"} | {"near": NEAR}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin", "kat", "mamba", "gla", "retnet", "mixtral", "delta_net", "convnext", *NETS])
def test_all_shapes_compute_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tuner, "PRECISIONS", ("float32",))
    monkeypatch.setattr(cases, "LENGTH", 9)
    monkeypatch.setattr(configs, "CHANGES", 1)
    monkeypatch.setattr(Gpu, "seconds", lambda self, call: 1.0)
    made = network(TOYS[name]) if name in TOYS else archlang.loads(NETS[name]).architecture()
    tuning = measured(made)
    assert tuning.times and not tuning.refused
    for case, times in tuning.times.items():
        assert len(times) == len(configurations(parsed(next(iter(times))))), case
