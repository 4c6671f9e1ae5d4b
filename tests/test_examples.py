"""Every example, small: checked, emitted, counted, trained, compiled, exported, and compared with its meaning."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import archlang
from archlang.emit.torch import emit
from archlang.ir import listing
from archlang.sizes import substitute
from archlang.syntax import Expect
from archlang.testing.networks import check_network, random_inputs
from tests.toys import Toy, all_toys, foundation

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
GOLDEN = Path(__file__).parent / "golden/examples"


TOYS = all_toys()
CORE = frozenset(toy.name for toy in foundation.TOYS)  # the default run also exports and compiles these
toys = pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
core = pytest.mark.parametrize(
    "toy", [pytest.param(toy, marks=() if toy.name in CORE else pytest.mark.slow, id=toy.name) for toy in TOYS]
)


@cache
def network(name: str) -> Any:
    toy = next(toy for toy in TOYS if toy.name == name)
    return archlang.load(EXAMPLES / f"{toy.file}.arch").architecture(toy.model, toy.variant, toy.settings)


def inputs(toy: Toy, at: int = 0) -> tuple[torch.Tensor, ...]:
    return tuple(
        x.float() if x.is_floating_point() else x for x in random_inputs(network(toy.name), toy.sizes[at]).values()
    )


def code(toy: Toy) -> str:
    """The module without the line that says where it came from."""
    made = network(toy.name)
    return emit(made.graph, doc=made.graph.doc, conditions=list(made.conditions.items()))


# ---- the text
@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.arch")), ids=lambda file: file.stem)
def test_checks(file: Path):
    """Every model, every variant, every expectation and every map."""
    assert archlang.check(file) == []
    program = archlang.load(file)
    assert {(file.stem, model) for model in program.models} <= {(toy.file, toy.model) for toy in TOYS}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.arch")), ids=lambda file: file.stem)
def test_states_what_is_known(file: Path):
    """A figure of the paper or of the published code, or that it is causal, which `test_checks` holds it to."""
    models = archlang.load(file).models.values()
    assert any(isinstance(statement, Expect) for model in models for statement in model.body)


@pytest.mark.parametrize(
    ("toy", "kind"),
    [
        pytest.param(toy, kind, id=f"{kind}-{toy.name}")
        for toy in TOYS
        for kind in ("py", "ir")
        if kind == "py" or toy.name in CORE
    ],
)
def test_golden(toy: Toy, kind: str, request: pytest.FixtureRequest):
    """`--update-golden` writes them anew; read the difference before you commit it."""
    made = code(toy) if kind == "py" else listing(network(toy.name).graph)
    file = GOLDEN / f"{toy.name}.{kind}"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made)
    assert made == file.read_text()


def test_emitted_text_is_as_ruff_leaves_it(tmp_path: Path):
    """Formatted, without unused names, with imports in order."""
    for toy in TOYS:
        (tmp_path / f"{toy.name}.py").write_text(network(toy.name).source())
    rules = "E,F,I,W,B,C4,PIE,SIM,RET,UP"
    for command in (["format", "--check"], ["check", "--select", rules, "--ignore", "E501,B905"]):
        ruff = [sys.executable, "-m", "ruff", command[0], "--isolated", "--line-length", "120", *command[1:]]
        done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


BUILD = """
import json, sys
from hashlib import sha256
import archlang
found = {}
for name, file, model, variant, settings in json.load(sys.stdin):
    program = archlang.load(file)
    made = program.architecture(model, variant, settings)
    texts = [made.source(), made.show(), made.graph.text(), str(made.macs), archlang.format_text(open(file).read())]
    found[name] = [sha256(text.encode()).hexdigest() for text in texts]
archlang.check(file)
assert "torch" not in sys.modules, "torch is imported"
print(json.dumps(found, sort_keys=True))
"""


def test_other_processes_make_the_same_bytes_without_torch():
    """Whatever the order of sets and hashes."""
    job = json.dumps([(t.name, str(EXAMPLES / f"{t.file}.arch"), t.model, t.variant, t.settings) for t in TOYS])
    made = []
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", BUILD],
            input=job,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        made.append(done.stdout)
    assert made[0] == made[1]


# ---- the module
@toys
def test_equals_its_meaning(toy: Toy):
    """Results and all gradients, in float64; weights as declared, parameters counted exactly."""
    module = check_network(network(toy.name), toy.sizes[0])
    assert list(module.state_dict()) == [path for path, _, _ in network(toy.name).graph.weights()]


@toys
def test_counts_what_torch_counts(toy: Toy):
    module, given = network(toy.name).module(seed=0).eval(), inputs(toy)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*given)
    assert counter.get_total_flops() == substitute(network(toy.name).cost.flops, toy.sizes[0])


@toys
def test_trains(toy: Toy):
    """Every weight gets a finite gradient."""
    module = network(toy.name).module(seed=0).train()
    torch.manual_seed(0)
    given = module(*inputs(toy))
    results = [*(given if isinstance(given, tuple) else (given,)), *getattr(module, "losses", {}).values()]
    torch.stack([result.square().mean() for result in results if result.is_floating_point()]).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the exporter's own, of loops
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@core
def test_exports(toy: Toy):
    """With the conditions as bounds; the program runs at other sizes."""
    module = network(toy.name).module(seed=0).eval()
    exported = torch.export.export(module, inputs(toy), dynamic_shapes=network(toy.name).dynamic_shapes()).module()
    for at in range(len(toy.sizes)):
        given = inputs(toy, at)
        torch.testing.assert_close(exported(*given), module(*given))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
@core
def test_compiles_as_one_graph(toy: Toy):
    compiles(toy, "aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@toys
def test_compiles_to_kernels(toy: Toy):
    compiles(toy, "inductor")


def compiles(toy: Toy, backend: str) -> None:
    module = network(toy.name).module(seed=0).eval()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    given = inputs(toy)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*given), module(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.arch")), ids=lambda file: file.stem)
def test_every_variant_counts_its_parameters(file: Path):
    """At full size, without memory for the weights."""
    program = archlang.load(file)
    for model in program.models:
        for variant in program.variants(model):
            made = program.architecture(model, variant)
            with torch.device("meta"):
                module = made.module()
            assert sum(p.numel() for p in module.parameters()) == made.params, (model, variant)
