"""Options and settings that every test shares."""

import atexit
import importlib.util
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

os.environ["TRITON_INTERPRET"] = (
    "1"  # there may be no GPU: kernels run step by step, and Triton asks when it is imported
)

# oneDNN lays channels in blocks of 8 here and of 16 where vectors are wider: every machine holds the same bytes so.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: more threads only fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests that start processes find archlang without an install, and what timm and transformers import of torchvision.
paths = [str(ROOT)]
if importlib.util.find_spec("torchvision") is None:
    paths.append(str(ROOT / "tests/peers/torchvision_stub"))
sys.path += paths
os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])

# What one run keeps, no other run sees; its workers share it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["ARCHLANG_CACHE_DIR"] = tempfile.mkdtemp(prefix="archlang-tests-")
    atexit.register(shutil.rmtree, os.environ["ARCHLANG_CACHE_DIR"], ignore_errors=True)

# The default run is the same everywhere; the slow run looks at new cases each time (`--hypothesis-seed` repeats one).
settings.register_profile("default", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, database=None, print_blob=True)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", type=float, default=1.0, metavar="X", help="run a random share of the chosen tests, 0 < X <= 1"
    )
    parser.addoption(
        "--share-seed", type=int, default=0, metavar="N", help="which share: equal seeds choose equal tests"
    )
    parser.addoption("--update-golden", action="store_true", help="write what the tests find as what they expect")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share, seed = config.getoption("--share"), config.getoption("--share-seed")
    left_out = [item for item in items if random.Random(f"{seed} {item.nodeid}").random() >= share]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
