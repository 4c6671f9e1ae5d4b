"""The Python face: what the README shows, and what notebooks and training scripts do with a module."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import archlang
from archlang.diagnostics import ArchError

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NET = """
\"\"\"A small net.\"\"\"
model net(dim: int = 8, classes: int = 3) {
  input x: [b, c = 4]
  output y = x -> linear(dim) as fc1 -> relu -> dropout(0.5) -> linear(classes) as fc2
  variant wide { dim = 16 }
}
"""


def test_the_tour():
    program = archlang.load(EXAMPLES / "maxvit.arch")
    network = program.maxvit(variant="tiny", classes=10)
    assert network.name == "maxvit"
    assert network.title == "maxvit/tiny"
    assert 30e6 < network.params < 31e6
    assert 5e9 < network.macs < 6e9
    assert network.flops == 2 * network.macs
    assert "classes=10" in network.source()
    assert str(network.inputs["image"]) == "[b, c = 3, h = 224, w = 224]"
    assert str(network.outputs["logits"]) == "[b, c = 10]"
    assert "maxvit" in repr(program)
    assert "maxvit" in dir(program)
    assert network.maps == ["timm"]


def test_counts_in_free_sizes_are_short():
    text = "model net { input x: [b, n, c = 64]\n output y = attend(x, x, x) -> linear(256) as mix }"
    row = next(line for line in archlang.loads(text).net().show().splitlines() if line.startswith("net "))
    assert row.split(maxsplit=2)[1:] == ["16.6k", "128 * n ** 2 + 16.4k * n"]


def test_show_and_repr():
    network = archlang.loads(NET).net(variant="wide")
    assert "fc1" in network.show()
    assert repr(network) == f"<architecture net/wide: {network.params} parameters, {network.macs} MACs>"
    html = network._repr_html_()
    assert html.startswith("<pre>")
    assert "fc1" in html
    assert "->" not in html.removeprefix("<pre>").removesuffix("</pre>").replace("-&gt;", "")


def test_text_in_html_is_escaped():
    network = archlang.loads(
        'model net { input x: [b, c = 2]\n require x.c < 3, "<b>"\n output y = x -> linear(2) }'
    ).net()
    assert "<b>" not in network._repr_html_()


def test_models_are_attributes():
    program = archlang.loads(NET)
    assert list(program.models) == ["net"]
    with pytest.raises(AttributeError):
        program.nett  # noqa: B018
    with pytest.raises(ArchError) as failure:
        program.architecture("nett")
    assert failure.value.diagnostics[0].code == "A507"


def test_costs_with_free_sizes_are_expressions():
    network = archlang.loads("model net { input x: [b, n, c = 4]\n output y = x -> linear(8) }").net()
    assert network.params == 40
    assert str(network.macs) == "32 * n"
    assert str(network.cost.macs) == "32 * b * n"


def test_seeds_make_equal_modules_and_leave_torch_alone():
    network = archlang.loads(NET).net()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other, third = network.module(seed=0), network.module(seed=0), network.module(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.fc1.weight, other.fc1.weight)
    assert not torch.equal(one.fc1.weight, third.fc1.weight)
    free = network.module()
    torch.set_rng_state(before)
    assert torch.equal(free.fc1.weight, network.module().fc1.weight)
    assert not torch.equal(torch.get_rng_state(), before)


def test_modules_are_modules():
    module = archlang.loads(NET).net().module(seed=0)
    assert isinstance(module, torch.nn.Module)
    assert module.architecture.name == "net"
    assert [name for name, _ in module.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    x = torch.randn(2, 4)
    assert not torch.equal(module.train()(x), module.eval()(x))
    with pytest.raises(ValueError, match="x must be"):
        module(torch.randn(2, 5))


def test_modules_can_be_copied_and_pickled():
    module = archlang.loads(NET).net().module(seed=0).eval()
    x = torch.randn(2, 4)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), module(x))
        assert twin.fc1.weight.data_ptr() != module.fc1.weight.data_ptr()
    assert copy.deepcopy(module).architecture is module.architecture
    assert pickle.loads(pickle.dumps(module)).architecture is None


def test_modules_travel_to_other_processes(tmp_path: Path):
    """A pickle is read where the emitted code has not run: in the worker of a data loader, on another machine."""
    module = archlang.loads(NET).net().module(seed=0).eval()
    (tmp_path / "module.pkl").write_bytes(pickle.dumps(module))
    code = "import pickle, torch; print(pickle.load(open('module.pkl', 'rb'))(torch.ones(1, 4)).tolist())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(module(torch.ones(1, 4)).tolist())


def test_emitted_files_run_alone(tmp_path: Path):
    network = archlang.loads(NET).net()
    (tmp_path / "net.py").write_text(network.source())
    count = "sum(p.numel() for p in Net().parameters())"
    code = f"import sys; from net import Net; print({count}, 'archlang' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == [str(network.params), "False"], done.stderr


def test_check_and_format():
    assert archlang.check(EXAMPLES / "vit.arch") == []
    assert [d.code for d in archlang.check(EXAMPLES / "nothing.arch")] == ["A902"]
    assert archlang.format_text("model  net {input x:[b,c=2]\noutput y=x}") == archlang.format_text(
        archlang.format_text("model  net {input x:[b,c=2]\noutput y=x}")
    )


def test_every_mistake_is_raised_at_once(tmp_path: Path):
    text = "model net {\n  input x: [b, c = 2]\n  y = x + x[n = 0]\n  z = x -> linear\n  output out = x + y\n}\n"
    with pytest.raises(ArchError) as failure:
        archlang.loads(text).net()
    assert [d.code for d in failure.value.diagnostics] == ["A205", "A301"]
    assert "error[A205]" in str(failure.value)
    (tmp_path / "net.arch").write_text(text)
    assert [d.code for d in archlang.check(tmp_path / "net.arch")] == ["A205", "A301"]


def test_unknown_target():
    with pytest.raises(ArchError):
        archlang.loads(NET).net().source("jax")
