"""What operations say that they keep for the backward pass is what torch keeps: every storage that
`saved_tensors_hooks` sees, weights and buffers left out. The examples of the documentation are one of each operation.
"""

from typing import Any

import pytest
import torch

import archlang
from archlang.analysis.memory import Memories
from archlang.analysis.memory_walk import Place
from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.ir import Graph
from archlang.shapes import is_float
from archlang.sizes import substitute
from archlang.testing.interpret import concrete
from archlang.testing.laws import random_tensor
from docs.make_operations import examples

SIZES = {"b": 4, "t": 128, "e": 32}
KRYLOV = """model krylov_alone {
  input a: [n = 16, m = 16]
  input b: [c = 8, n = 16]
  input read: [n = 16, c = 8]
  output y = krylov(a, b, read, on = [n, m], axis = t, size = 20)
}"""
GRAPHS = examples({"mlp": "ffn"}) | {"krylov": archlang.loads(KRYLOV).krylov_alone().graph}
WIDE = 0.15  # of what algorithms of several steps keep
NEARLY = frozenset("attend linear_recurrence selective_scan lti_scan lstm gru mixture".split())


def declared(graph: Graph) -> tuple[Any, set[str]]:
    """The bytes that a graph says it keeps, and the inputs that it reads again."""
    run = Memories("float64")
    places = tuple(
        Place(run.typed(concrete(value.type, SIZES)), is_float(value.type.dtype)) for value in graph.inputs.values()
    )
    held = run.graph(graph, places)
    outputs = sum(output.type.bytes for output in held.outputs if output.read and output.alias is None)
    ports = list(graph.inputs)
    bytes_ = substitute(substitute(held.kept + outputs, run.means), SIZES)
    return bytes_, {ports[i] for i in held.reads}


def kept(graph: Graph) -> tuple[int, set[str]]:
    """The same of the emitted module, from torch."""
    random = torch.Generator().manual_seed(0)
    module = load(emit(graph), class_name(graph))().train()
    given = {port: random_tensor(concrete(value.type, SIZES), random, 2) for port, value in graph.inputs.items()}
    given = {port: x.abs().requires_grad_() if x.is_floating_point() else x for port, x in given.items()}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    inputs = {x.untyped_storage().data_ptr(): port for port, x in given.items()}
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(*given.values())
    fresh = sum(storage.nbytes() for place, storage in seen.items() if place not in own and place not in inputs)
    return fresh, {inputs[place] for place in seen if place in inputs}


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_keeps_what_it_says(name: str):
    graph = GRAPHS[name]
    (meant, reads), (found, used) = declared(graph), kept(graph)
    room = WIDE * found if name in NEARLY else 0
    assert abs(meant - found) <= room, f"{meant} bytes are declared, and {found} kept\n{graph.text()}"
    assert reads == used or name in NEARLY, f"{sorted(reads)} are declared, and {sorted(used)} read\n{graph.text()}"
