# `make demo` and `make test` need Python 3.11 or later and nothing else; both make .venv on the first run and are quick after it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
PHOTO   = $(VENV)/lib/python3*/site-packages/sklearn/datasets/images/china.jpg

# A thread that waits leaves its core to others: without this a busy machine trains 20 times slower.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test slow check bench clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

demo: $(VENV)/demo.stamp  ## build MaxViT, run it on a photograph, train a small one on digits
	$(BIN)/archlang build examples/maxvit.arch:tiny -o build/maxvit_tiny.py
	$(BIN)/archlang run examples/maxvit.arch:tiny --input $(PHOTO)
	$(BIN)/python examples/train_digits.py --out build
	$(BIN)/archlang run examples/maxvit.arch:digits --input build/digit.png --weights build/digits.safetensors --map timm --normalize inception

test: $(VENV)/test.stamp  ## every test but the slow ones
	$(BIN)/python -m pytest -n auto

slow: $(VENV)/test.stamp  ## the slow tests, all of them
	$(BIN)/python -m pytest -n auto -m slow

check: $(VENV)/test.stamp  ## formatting, lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/archlang fmt --check examples stdlib

bench: $(VENV)/test.stamp  ## compile times, and what is emitted against timm and others on this CPU
	$(BIN)/python benchmarks/compile_time.py
	$(BIN)/python benchmarks/cpu_models.py
	$(BIN)/python benchmarks/cpu_mixers.py
	$(BIN)/python benchmarks/cpu_domains.py

clean:           ## remove the environment and everything built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch goes first and alone: a build that is there satisfies everything after it.
$(VENV)/torch.stamp: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) numpy torch
	@touch $@

$(VENV)/demo.stamp: $(VENV)/torch.stamp pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp tests/peers/install.sh
	$(PIP) -e '.[dev]'
	tests/peers/install.sh $(BIN)/python
	@touch $@
