"""Attention as files write it: scores, domains and registers by their names, compiled and exported."""

from pathlib import Path

import pytest
import torch

import archlang
from archlang.sizes import substitute
from archlang.testing.networks import check_network

SIZES = {"sliding(16)": "t", "neighborhood(3, dilation = 2)": "n", "radius(3)": "n", "chunks(16)": "n"}


def network(tmp_path: Path, body: str, axes: str) -> archlang.Architecture:
    file = tmp_path / "net.arch"
    file.write_text(
        f"""model net() {{
  input x: [b, {axes}, c = 8]
  qkv = x -> linear([part = 3, heads = 2, c = 4]) as qkv
  q, k, v = qkv[part = 0], qkv[part = 1], qkv[part = 2]
  output y = {body}
}}
"""
    )
    return archlang.load(file).architecture()


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "sigmoid(bias = -2)", "relu(power = 2, mean = false)"])
def test_scores_have_names(tmp_path: Path, score: str):
    made = network(tmp_path, f"attend(q, k, v, over = windows(4), score = {score})", "h = 8, w = 8")
    assert made.module().eval()(torch.randn(2, 8, 8, 8)).shape == (2, 8, 8, 2, 4)


@pytest.mark.parametrize("domain", SIZES)
def test_free_sizes_compile_and_export(tmp_path: Path, domain: str):
    """A map of a single tile is no case of its own: so export must be told to take it."""
    made = network(tmp_path, f"attend(q, k, v, over = {domain})", SIZES[domain])
    module = made.module().eval()
    x, longer = torch.randn(2, 40, 8), torch.randn(2, 57, 8)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        exported = torch.export.export(module, (x,), dynamic_shapes=made.dynamic_shapes()).module()
    with torch.no_grad():
        for given in (x, longer):
            torch.testing.assert_close(compiled(given), module(given))
            torch.testing.assert_close(exported(given), module(given))


def test_a_window_is_remembered_however_long_the_sequence(tmp_path: Path):
    """The ring of keys and values has the size of the window; all that `causal` sees grows with time."""
    ring = network(tmp_path, "attend(q, k, v, over = sliding(5))", "t")
    assert substitute(ring.cost.state_bytes, {"b": 1}) == 2 * 5 * 2 * 4 * 4
    everything = network(tmp_path, "attend(q, k, v)", "t")
    assert substitute(everything.cost.state_bytes, {"b": 1, "t": 9}) == 2 * 9 * 2 * 4 * 4


def test_masks_are_joined_by_and():
    """A band and a padding mask, both written out."""
    text = """model net {
      input x: [b, n, c = 8]
      input length: int[b]
      i = index(n)
      output y = attend(x, x, x, mask = (i - rename(i, n = n_key)) ** 2 < 9 and index(n) < length)
    }"""
    check_network(archlang.loads(text).architecture(), {"b": 2, "n": 5})


DOCUMENTS = """
model net {
  input x: [b, t, c = 8]
  input doc: segments[b, t]
  input page: segments[b, t]
  output y = attend(x, x, x, segments = doc)
}
"""
MASKED = """
model net {
  input x: [b, t, c = 8]
  input doc: int[b, t]
  input page: int[b, t]
  output y = attend(x, x, x, mask = same_segment(doc, on = t) and same_segment(page, on = t))
}
"""


def test_documents_of_two_inputs_cut_twice() -> None:
    """Those that attention is told, and those that cut the axis."""
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
    doc, page = torch.arange(9).expand(2, 9) // 4, torch.arange(9).expand(2, 9) // 3
    found, meant = (archlang.loads(text).net().module()(x, doc, page) for text in (DOCUMENTS, MASKED))
    torch.testing.assert_close(found, meant)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, archlang.loads(DOCUMENTS).net().module()(x, doc, doc))
