# make setup    a virtual environment with what the demo needs (once; then a no-op)
# make demo     rooms, warm start, self-evolution, report: runs/demo/report.html
# make test     every test      make lint    style, format and types
# make smoke    the demo's commands on four rooms and four steps
#
# PYTHON=python3.12 chooses the interpreter, VENV=.venv312 another environment,
# TORCH= leaves PyTorch out (its comparisons are then skipped), EXTRAS=dev the compiler for TPUs.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
EXTRAS ?= dev,tpu
WORKERS ?= 2
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# Doubly quiet: errors only. Not compiled: a file's bytecode is made when it is first imported.
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt

ROOMS := data/rooms
SMOKE := build/smoke
TRAIN := $(RUN) launch.train
REPORT := $(RUN) launch.report

.PHONY: setup setup-dev rooms demo demo-seeds demo-ablations smoke test lint format clean check-python
.DEFAULT_GOAL := setup
.DELETE_ON_ERROR:

# --- environment ---------------------------------------------------------------------------

$(BIN)/python: | check-python
	$(PYTHON) -m venv $(VENV)

# PYTHON= is compared with an environment that is there already, never quietly ignored.
check-python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"make: expected Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}; choose one with PYTHON=.")'
ifneq ($(origin PYTHON),file)
	@test ! -x $(BIN)/python || test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" || { \
	  echo "make: $(VENV) was made with $$($(BIN)/python -V), PYTHON= is $$($(PYTHON) -V); run 'make clean' first or choose another folder with VENV=." >&2; exit 2; }
endif

$(VENV)/.setup: pyproject.toml constraints.txt | $(BIN)/python check-python
	@echo 'make: installing into $(VENV), about half a minute and 250 MB of downloads'
	$(PIP_INSTALL) --editable .
	@touch $@

# PyTorch goes first and by its exact version: a later, looser request may take another build. Of
# the TPU packages the tests need the compiler, which runs without a TPU (213 MB, 684 MB installed).
$(VENV)/.setup-dev: $(VENV)/.setup
	$(if $(TORCH),$(PIP_INSTALL) $(TORCH))
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

setup: $(VENV)/.setup
setup-dev: $(VENV)/.setup-dev

# --- the main job --------------------------------------------------------------------------

# Quick when the rooms are there: finished ones are kept.
rooms: setup
	$(RUN) launch.prepare --dataset=rooms --out=$(ROOMS)

# An interrupted demo goes on where it stopped: the loop resumes from its folder.
demo: rooms
	$(TRAIN) --config=configs/tiny_cpu.py --workdir=runs/demo
	$(REPORT) --workdir=runs/demo

demo-seeds: rooms
	for seed in 0 1 2; do \
	  $(TRAIN) --config=configs/tiny_cpu.py --workdir=runs/seed$$seed --config.seed=$$seed || exit $$?; \
	done
	$(REPORT) --summaries=runs/seed0,runs/seed1,runs/seed2

# The demo with one part taken out or its reward replaced, over three seeds: a table and a picture.
# About ten minutes for each of the fifteen runs.
ABLATIONS := full no_scheduler no_questioner vote shuffled
comma := ,
empty :=
space := $(empty) $(empty)
ABLATED := $(foreach name,$(ABLATIONS),$(foreach seed,0 1 2,$(name)=runs/ablations/$(name)$(seed)))
demo-ablations: rooms
	for name in $(ABLATIONS); do for seed in 0 1 2; do \
	  $(TRAIN) --config=configs/ablations.py:$$name --workdir=runs/ablations/$$name$$seed \
	    --config.seed=$$seed || exit $$?; \
	done; done
	$(REPORT) --compare=$(subst $(space),$(comma),$(foreach name,$(ABLATIONS),$(name)=runs/ablations/$(name)0)) \
	  --out=runs/ablations/curves.png
	$(REPORT) --summaries=$(subst $(space),$(comma),$(ABLATED)) --out=runs/ablations/table.json

# Every command of the demo, tiny, with nothing installed but what a user has.
smoke: setup
	rm -rf $(SMOKE)
	$(RUN) launch.prepare --dataset=rooms --out=$(SMOKE)/rooms --count=4 --val_count=4
	$(TRAIN) --config=configs/tiny_cpu.py --workdir=$(SMOKE)/run --config.data.scenes=$(SMOKE)/rooms \
	  --config.warm_start.steps=3 --config.warm_start.naming_steps=1 \
	  --config.warm_start.looking_steps=2 --config.warm_start.warmup_steps=1 \
	  --config.grpo.steps=1 --config.evaluation.questions_per_task=2
	$(REPORT) --workdir=$(SMOKE)/run

# --- checks --------------------------------------------------------------------------------

# Files in their own order: sorted by number of tests, as xdist would, the longest ones come last,
# one worker at work.
test: setup-dev
	$(RUN) pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python --threads $(WORKERS)

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps data/ and runs/: they take longer to make again.
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
