"""Every example, small, for inference: equal to its meaning, with the weights of the source, as code to read."""

import subprocess
import sys
from pathlib import Path

from archlang.testing.networks import check_network
from tests.test_examples import TOYS, network, toys
from tests.toys import Toy


@toys
def test_equals_its_meaning(toy: Toy):
    """In float64; all weights have their names, in their order."""
    module = check_network(network(toy.name), toy.sizes[0], purpose="inference")
    assert list(module.state_dict()) == [path for path, _, _ in network(toy.name).graph.weights()]


def test_emitted_text_is_as_ruff_leaves_it(tmp_path: Path):
    """Formatted, without unused names, with imports in order."""
    for toy in TOYS:
        (tmp_path / f"{toy.name}.py").write_text(network(toy.name).source(purpose="inference"))
    rules = "E,F,I,W,B,C4,PIE,SIM,RET,UP"
    for command in (["format", "--check"], ["check", "--select", rules, "--ignore", "E501,B905"]):
        ruff = [sys.executable, "-m", "ruff", command[0], "--isolated", "--line-length", "120", *command[1:]]
        done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
