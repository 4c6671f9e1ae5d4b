"""Laws of attention: every domain, layout, bias and mask equals the slow meaning."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from archlang.facts import Facts
from archlang.primitive import AxisMap, OpError
from archlang.primitives.attention import Attend
from archlang.primitives.domain import Causal, Domain, Full, Grid, Windows
from archlang.primitives.near import Chunks, Neighborhood, Sliding
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law, single

MAP = {"b": 2, "h": 4, "w": 6, "heads": 2, "c": 3}


def tensor(dtype: str = "float", **sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()), dtype)


def alike(**sizes: object) -> list[TensorType]:
    return [tensor(**sizes)] * 3


DOMAINS = [
    Full(),
    Windows(size=2),
    Windows(size=AxisMap((("h", 2), ("w", 3)))),
    Windows(size=AxisMap((("h", 2),))),
    Windows(size=2, shift=1),
    Windows(size=AxisMap((("h", 4), ("w", 3))), shift=AxisMap((("w", 2),))),
    Windows(size=9, shift=1),
    Grid(size=2),
    Grid(size=AxisMap((("h", 4), ("w", 3)))),
    Sliding(n=2),
    Sliding(n=AxisMap((("h", 1), ("w", 6)))),
    Windows(size=2).meet(Sliding(n=1)),
    Windows(size=2, shift=1).meet(Sliding(n=AxisMap((("h", 2), ("w", 1))))),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_domains_on_a_map(domain: Domain):
    check_law(Attend(over=domain), *alike(**MAP))


@pytest.mark.parametrize("domain", DOMAINS[4:9], ids=str)
def test_no_batch_and_no_heads(domain: Domain):
    check_law(Attend(over=domain), *alike(h=4, w=6, c=3))
    check_law(Attend(over=domain), tensor(**MAP, group=2), *alike(**MAP)[1:])


@pytest.mark.parametrize(
    "domain",
    [None, Causal(), Sliding(n=3), Sliding(n=9), Windows(size=3).meet(Causal()), Causal().meet(Sliding(n=2))],
    ids=str,
)
@pytest.mark.parametrize("length", [6, symbol("t")], ids=str)
def test_time(domain: Domain | None, length: object):
    types = alike(b=symbol("b"), t=length, heads=2, c=4)
    check_law(Attend(over=domain), *types, sizes={"t": 6})


def test_domains_over_free_sizes():
    types = alike(b=2, h=symbol("h"), w=symbol("w"), heads=2, c=3)
    for domain in (Full(), Windows(size=2), Windows(size=2, shift=1), Grid(size=2), Sliding(n=2)):
        check_law(Attend(over=domain), *types, sizes={"h": 4, "w": 6})


def test_space_and_time():
    video = {"b": 2, "t": 3, "n": 4, "heads": 2, "c": 3}
    check_law(Attend(), *alike(**video))
    check_law(Attend(on=("n",)), *alike(**video))
    check_law(Attend(on=("time",)), *alike(**video))


def test_grouped_queries():
    k = tensor(b=2, t=5, heads=2, c=4)
    check_law(Attend(), tensor(b=2, t=5, heads=2, group=3, c=4), k, k)
    check_law(Attend(over=Sliding(n=2)), tensor(b=2, t=5, heads=2, group=3, c=4), k, k)
    multi = tensor(b=2, t=5, c=4)
    check_law(Attend(), tensor(b=2, t=5, heads=3, c=4), multi, multi)
    check_law(Attend(), tensor(b=2, t=5, heads=2, group=2, c=4), k, k, tensor(heads=2, group=2, query=5, key=5))


def test_cross_attention():
    q, k, v = tensor(b=2, n=3, heads=2, c=4), tensor(b=2, n=5, heads=2, c=4), tensor(b=2, n=5, heads=2, c=6)
    check_law(Attend(), q, k, v)
    check_law(Attend(), q, k, v, None, tensor("bool", b=2, n_key=5))
    check_law(Attend(), tensor(b=2, h=2, w=3, heads=2, c=4), k, v, None, tensor("bool", b=2, n=5))
    check_law(Attend(), tensor(b=2, h=2, w=3, heads=2, c=4), k, v)
    check_law(Attend(), tensor(b=2, t=3, heads=2, c=4), k, v)
    check_law(Attend(), tensor(queries=3, heads=2, c=4), k, v)


def test_a_query_of_one():
    k = tensor(b=2, n=5, heads=2, c=4)
    check_law(Attend(), tensor(b=2, heads=2, c=4), k, k)
    check_law(Attend(), tensor(heads=2, c=4), k, k)
    check_law(Attend(), tensor(b=2, c=4), k, k)
    check_law(Attend(), tensor(c=4), tensor(t=5, c=4), tensor(t=5, c=2))


def test_biases_and_masks():
    types = alike(b=2, t=4, heads=2, c=3)
    check_law(Attend(), *types, tensor(heads=2, t=4, t_key=4))
    check_law(Attend(over=Full()), *alike(**MAP), tensor(h=4, w=6, h_key=4, w_key=6), tensor("bool", b=2, h=4, w=6))
    check_law(Attend(over=Full()), *alike(**MAP), tensor(h=4, h_key=4))
    check_law(Attend(over=Full()), *alike(**MAP), tensor(b=2, heads=2, query=24, key=24))
    check_law(Attend(over=Windows(size=2)), *alike(**MAP), tensor(b=2, heads=2, query=4, key=4))
    check_law(Attend(over=Windows(size=2, shift=1)), *alike(**MAP), tensor(query=4, key=4))
    check_law(Attend(over=Grid(size=2)), *alike(**MAP), tensor(heads=2, query=4, key=4))
    check_law(Attend(over=Windows(size=2)), *alike(**MAP), None, tensor("bool", heads=2, w=6))


def test_documents():
    """A query sees its own document alone, whatever the domain: sorted or not, of lines and of maps."""
    for domain in (Full(), Causal(), Sliding(n=3), Chunks(size=3)):
        line = alike(b=2, t=7, heads=2, c=3) if not isinstance(domain, Full) else alike(b=2, n=7, heads=2, c=3)
        name = "n" if isinstance(domain, Full) else "t"
        doc = torch.tensor([[0, 0, 0, 1, 1, 4, 4], [1, 1, 0, 0, 1, 1, 1]])
        check_law(Attend(over=domain), *line, *[None] * 8, (tensor("segments", b=2, **{name: 7}), doc))
    doc = torch.randint(0, 2, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    for domain in (Full(), Windows(size=2, shift=1), Neighborhood(size=3)):
        own = (tensor("segments", b=2, h=4, w=6), doc)
        check_law(Attend(over=domain), *alike(**MAP), *[None] * 8, own)
        check_law(Attend(over=domain), *alike(**MAP), None, tensor("bool", b=2, h=4, w=6), *[None] * 6, own)
    row = (tensor("segments", b=2, w=6), doc[:, 0])
    check_law(
        Attend(over=Neighborhood(size=3)), *alike(**MAP), tensor(heads=2, h_offset=5, w_offset=5), *[None] * 7, row
    )
    heads = (tensor("segments", heads=2, w=6), doc[:, 0])
    for domain in (Neighborhood(size=3), Windows(size=2)):
        check_law(Attend(over=domain), *alike(**MAP), *[None] * 8, heads)


@pytest.mark.parametrize("core", ["fused", "written"])
@pytest.mark.parametrize("domain", [Full(), Windows(size=2), Windows(size=2, shift=1), Grid(size=2)], ids=str)
def test_cores(core: Any, domain: Domain):
    count = 24 if isinstance(domain, Full) else 4
    op = Attend(over=domain, core=core)
    for bias in (None, tensor(heads=2, query=count, key=count), tensor(b=2, heads=2, query=count, key=count)):
        module = check_law(op, *alike(**MAP), bias).float()
        given = [torch.randn([size for _, size in sizes], requires_grad=False) for sizes in _sizes(bias)]
        backends = [SDPBackend.FLASH_ATTENTION] if core == "fused" else []
        with torch.no_grad(), sdpa_kernel(backends):  # whatever else it would run raises
            module(*given)


def _sizes(bias: TensorType | None) -> list[list[tuple[str, int]]]:
    return [[(a.name, int(str(a.size))) for a in type_] for type_ in (*alike(**MAP), *([bias] if bias else []))]


def test_a_query_that_sees_nothing_gets_zero():
    mask = torch.tensor([[True, False], [False, False]])
    types = alike(b=2, n=2, heads=1, c=3)
    module = check_law(Attend(), *types, None, (tensor("bool", b=2, n=2), mask))
    out = module(*(torch.randn(2, 2, 1, 3, dtype=torch.float64) for _ in range(3)), mask)
    assert (out[1] == 0).all()
    assert (out[0] != 0).all()


def test_scales():
    types = alike(b=2, n=4, heads=2, c=3)
    check_law(Attend(scale=1), *types)
    check_law(Attend(), *types, None, None, tensor(heads=2))
    check_law(Attend(over=Windows(size=2), scale=0.3), *types)
    check_law(Attend(over=Windows(size=2)), *types, None, None, tensor(heads=2))


@given(st.data())
def test_layouts(data: st.DataObject):
    """The order of axes never matters."""
    sizes = {"b": 2, "h": 2, "w": 4, "heads": 2, "c": 3}
    orders = [data.draw(st.permutations(list(sizes)), label=side) for side in "qkv"]
    domain = data.draw(st.sampled_from([Full(), Windows(size=2, shift=1), Grid(size=2)]))
    q, k, v = (tensor(**{name: sizes[name] for name in order}) for order in orders)
    check_law(Attend(over=domain), q, k, v, gradients=False)


def test_dropout_acts_in_training_only():
    for domain in (Full(), Windows(size=2)):
        types = alike(b=2, n=8, heads=2, c=3)
        module = check_law(Attend(over=domain, drop=0.5), *types)
        x = torch.randn(2, 8, 2, 3, dtype=torch.float64)
        assert torch.equal(module(x, x, x), module(x, x, x))
        module.train()
        assert not torch.equal(module(x, x, x), module(x, x, x))


def test_conditions_of_partitions():
    facts = Facts()
    types = alike(b=2, h=symbol("h"), w=8, heads=2, c=3)
    Attend(over=Windows(size=4)).infer(facts, *types)
    assert [str(condition) for condition in facts.conditions] == ["h % 4 == 0"]


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (Attend(over=Windows(size=3)), alike(**MAP), "needs `h` to be a multiple of 3, and it is 4"),
        (Attend(over=Windows(size=2, shift=2)), alike(**MAP), "less than the window of 2"),
        (Attend(over=Windows(size=0)), alike(**MAP), "at least 1"),
        (Attend(over=Windows(size=AxisMap((("z", 2),)))), alike(**MAP), "no axis `z`"),
        (Attend(over=Causal()), alike(**MAP), "a time axis or a single axis, not h, w"),
        (Attend(over=Windows(size=2).meet(Grid(size=2))), alike(**MAP), "is not a domain"),
        (Attend(over=Windows(size=2)), [tensor(b=2, heads=2, c=3), *alike(**MAP)[1:]], "pairs queries and keys"),
        (Attend(), alike(b=2, c=3), "no axis to attend over"),
        (Attend(), [tensor(n=4, c=3), tensor(n=4, c=5), tensor(n=4, c=5)], "`c` has 3 in `q` and 5 in `k`"),
        (Attend(), [tensor(n=4, c=3), tensor(n=4, c=3), tensor(n=5, c=3)], "`n` has 4 in `k` and 5 in `v`"),
        (Attend(), [tensor(t=4, c=3), tensor(t=5, c=3), tensor(t=5, c=3)], "pairs queries and keys along `t`"),
        (Attend(), alike(t=4, n=2, heads=2, c=3)[:2] + [tensor("int", t=4, n=2, c=3)], "takes float tensors"),
        (Attend(drop=1), alike(n=4, c=3), "`drop`"),
        (Attend(), [*alike(n=4, c=3), None, tensor(n=4)], "`mask` must be bool"),
        (Attend(), [*alike(n=4, c=3), tensor(z=4)], "no axis of the attention"),
        (Attend(), [*alike(n=4, c=3), *[None] * 8, tensor("bool", n=4)], "`segments` must be segments"),
        (Attend(), [*alike(b=2, n=4, c=3), *[None] * 8, tensor("int", b=2)], "no axis that is attended over"),
        (Attend(), [tensor(c=3), *alike(n=4, c=3)[1:], *[None] * 8, tensor("int", n=4)], "`k` has 4 and `q` lacks it"),
        (Attend(over=Full()), alike(b=2, t=4, c=3), "looks ahead along the time axis `t`"),
        (Attend(over=Windows(size=2)), alike(b=2, t=4, c=3), "looks ahead along the time axis `t`"),
    ],
)
def test_refusals(op: Attend, types: list[TensorType | None], title: str):
    with pytest.raises(OpError, match=".") as caught:
        single(op, types)
    assert title in str(caught.value)
