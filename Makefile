# Every target sets up what it needs in .venv, then runs. TORCH picks the build of torch, TORCH_INDEX where it comes from.
PYTHON ?= python3
TORCH ?= torch>=2.11
TORCH_INDEX ?=
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

# What needs no torch runs in an environment of its own, which is quick to make for every interpreter.
LIGHT := build/light-$(notdir $(PYTHON))
LIGHT_TESTS := $(addprefix tests/,fuzz/test_recipes.py $(addprefix unit/,config cli plan plugin/test_entry_points.py \
    test_architecture.py test_docs.py test_commands_in_prose.py test_every_key_has_a_reader.py test_public_api.py))

.PHONY: help demo test light lint docs site wheels fuzz acceptance-real mutants storm bench-startup clean

help:
	@echo "make demo   install, prepare a small video dataset, fine-tune, show what was learned (about 6 minutes)"
	@echo "            RECIPE=videophy2_demo does the same with a reasoner"
	@echo "make test   install, lint, type-check, run every test (at most 25 minutes on two cores)"
	@echo "make light  the tests that need no torch, in an environment of their own (PYTHON=python3.12 and others; two minutes)"
	@echo "make wheels build the wheels of all five distributions into dist"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   write the generated reference pages and the list of public names anew"
	@echo "make site   build the pages of docs/ into build/site"
	@echo "make fuzz   20,000 mutated recipes, videos and files of every other kind (an hour)"
	@echo "make acceptance-real   published weights: fetch, train, export, generate, chat, compare; writes one JSON to send back"
	@echo "make storm N=200   kills, signals, full disks and damage on runs of 1 to 4 processes; nothing may be lost (an hour)"
	@echo "make mutants   plants 180 small faults in the source; the tests must notice 95 % of them (half an hour)"
	@echo "make bench-startup   start-up of the listing commands against a bare interpreter"
	@echo "make clean  remove .venv and the demo's data; runs under $(OUTPUT) stay"
	@echo "TORCH='torch==2.13.0' picks the version of torch, TORCH_INDEX=URL the index it comes from (README says more),"
	@echo "PYTHON=python3.12 the interpreter"

.venv/installed: $(PROJECTS)
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) "hatchling>=1.27" editables
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

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
# Processes of one thread each, file by file. Demos may take four minutes of two cores, so no third process runs beside
# them; other tests wait for others a third of their time.
test: lint
	$(PYTEST) --numprocesses 2 tests/acceptance
	$(PYTEST) --numprocesses 3 --ignore tests/acceptance

light:
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m tests.light > $(LIGHT)/requirements.txt
	$(LIGHT)/bin/pip install --quiet editables -r $(LIGHT)/requirements.txt
	$(LIGHT)/bin/pip install --quiet --no-deps --no-build-isolation -e . $(EDITABLE)
	$(LIGHT)/bin/python -m pytest --numprocesses 2 --dist loadfile -m "not torch" $(LIGHT_TESTS)

wheels: .venv/installed-test
	rm -f dist/*.whl
	for project in . $(addprefix plugins/,$(PLUGINS)); do \
	    $(BIN)/python -m build --wheel --no-isolation --outdir dist $$project || exit 1; done

fuzz: .venv/installed-test
	COSMOS_FUZZ=20000 $(BIN)/python -m pytest -q tests/fuzz

# TWIN=1 takes small random weights in the published layout instead of the published ones.
acceptance-real: .venv/installed-test
	$(BIN)/python -m tests.acceptance.real -o outputs/acceptance $(if $(TWIN),--twin)

N := 200
storm: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.storm --count $(N)

mutants: .venv/installed-test
	for seed in 1 2 3; do OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --seed $$seed --count 60 || exit 1; done

bench-startup: .venv/installed-test
	$(BIN)/python -m tests.benchmarks.startup

clean:
	rm -rf .venv $(DATA)
