# Every target sets up what it needs in .venv, then runs. TORCH picks the build to install.
PYTHON ?= python3
TORCH ?= torch>=2.11
RECIPE ?= vision_sft_demo
ifeq ($(RECIPE),videophy2_demo)
DATA ?= examples/data/physics_synthetic
PREPARE := videophy2 --synthetic 4000
PLACE := VIDEOPHYSICS_ROOT
JUDGE := demo_reasoner
else
DATA ?= examples/data/bridge_synthetic
PREPARE := bridge --synthetic 768
PLACE := DATASET_PATH
JUDGE := demo_generator
endif
OUTPUT ?= outputs/train
NAME ?= $(RECIPE)_$(shell date +%Y%m%d_%H%M%S)

BIN := .venv/bin
PIP := $(BIN)/pip install --quiet
PLUGINS := cosmos_vfm cosmos_vlm cosmos_data_bridge cosmos_data_videophy
EDITABLE := $(foreach plugin,$(PLUGINS),-e plugins/$(plugin))
PROJECTS := pyproject.toml $(foreach plugin,$(PLUGINS),plugins/$(plugin)/pyproject.toml)

.PHONY: help demo test lint docs site fuzz mutants bench-startup clean

help:
	@echo "make demo   install, prepare a small video dataset, fine-tune, show what was learned (about 6 minutes)"
	@echo "            RECIPE=videophy2_demo does the same with a reasoner"
	@echo "make test   install, lint, type-check, run every test (at most 25 minutes on two cores)"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   write the generated reference pages and the list of public names anew"
	@echo "make site   build the pages of docs/ into build/site"
	@echo "make fuzz   ten thousand mutated recipes (some minutes)"
	@echo "make mutants   plants 180 small faults in the source; the tests must notice 95 % of them (half an hour)"
	@echo "make bench-startup   start-up of the listing commands against a bare interpreter"
	@echo "make clean  remove .venv and the demo's data; runs under $(OUTPUT) stay"
	@echo "TORCH='torch==2.13.0' picks the build of torch, PYTHON=python3.12 the interpreter"

.venv/installed: $(PROJECTS)
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) "$(TORCH)" "hatchling>=1.27" editables
	$(PIP) --no-build-isolation -e . $(EDITABLE)
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) --no-build-isolation -e ".[test]" $(EDITABLE)
	$(PIP) --no-build-isolation "natten>=0.21.5"
	@touch $@

demo: .venv/installed
	$(BIN)/cosmos data prepare $(PREPARE) -o $(DATA)
	$(PLACE)=$(DATA) $(BIN)/cosmos run $(RECIPE) --output-root $(OUTPUT) job.name=$(NAME)
	$(BIN)/python -m tests.acceptance.$(JUDGE) $(OUTPUT)/cosmos3/sft/$(NAME)

docs: .venv/installed-test
	$(BIN)/cosmos config reference > .config_reference.md && mv .config_reference.md cosmos_core/config/README.md
	$(BIN)/cosmos plugins hooks > .hooks.md && mv .hooks.md cosmos_core/plugin/README.md
	$(BIN)/python -m tests.public_api > .public_api.txt && mv .public_api.txt tests/golden/public_api.txt

site: .venv/installed
	$(PIP) --no-build-isolation -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes of one thread each, file by file; the demos come first, because they take longest.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

fuzz: .venv/installed-test
	COSMOS_FUZZ=10000 $(BIN)/python -m pytest -q tests/fuzz

mutants: .venv/installed-test
	for seed in 1 2 3; do OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --seed $$seed --count 60 || exit 1; done

bench-startup: .venv/installed-test
	$(BIN)/python -m tests.benchmarks.startup

clean:
	rm -rf .venv $(DATA)
