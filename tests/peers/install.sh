#!/usr/bin/env bash
# The reference implementations that peer tests and benchmarks compare with, into the environment of PYTHON.
# usage: tests/peers/install.sh PYTHON
# timm asks for torchvision, which need not exist for the installed torch: it is left out, and tests/conftest.py stands in for it.
set -euo pipefail
python=${1:?usage: tests/peers/install.sh PYTHON}
cd "$(dirname "$0")/../.."
install=("$python" -m pip install -q --disable-pip-version-check -c constraints.txt)
"${install[@]}" -e '.[peers]'
# flash-linear-attention asks for CUDA builds; its sequential functions and models need none.
"${install[@]}" --no-deps timm monai flash-linear-attention fla-core
