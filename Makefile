# make converted/digits.tflite converted/digits.onnx    set up, convert, and print the measured difference
# make test                                             set up, and test
PYTHON ?= $(firstword $(shell command -v python3.11 python3))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
FILES := $(filter converted/% reports/% benchmarks/%.json zoo/%,$(MAKECMDGOALS))

.PHONY: help bench convert lint types test test-all test-wheel wheel test-legacy test-slurm format test-faults fuzz mutation corpus onnx-nodes lock locked audit licences $(FILES)
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile | head -2

# One Snakemake run for all files asked for: they share imports and run side by side.
$(FILES): convert
	@:

convert: $(VENV)/.core
	@$(BIN)/snakemake $(FILES)

$(VENV)/.core: requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Converter needs Python 3.11: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.txt
	echo "$(CURDIR)/workflow" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/converter.pth"
	touch $@

$(VENV)/.all: $(VENV)/.core requirements-torch.txt requirements-vision.txt requirements-micro.txt requirements-openvino.txt requirements-dev.txt requirements-cluster.txt
	$(PIP) --requirement requirements-torch.txt --requirement requirements-dev.txt --requirement requirements-cluster.txt
	$(PIP) --no-deps --requirement requirements-vision.txt
	$(PIP) --no-deps --requirement requirements-openvino.txt
	-$(PIP) --no-deps --requirement requirements-micro.txt # has wheels for Linux on x86-64 only
	touch $@

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

# Types by pyright: most of a minute, the libraries' own. Errors that were there before are in .basedpyright/baseline.json.
types: $(VENV)/.all
	$(BIN)/basedpyright

format: $(VENV)/.all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# As Snakemake sets it for its rules: threads that wait for each other at full speed are slow where cores are few.
test test-all test-wheel test-legacy: export OMP_NUM_THREADS := 1

# What fits into minutes on two cores; test-all runs the long ones too.
test: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not legacy and not slurm"

test-all: $(VENV)/.all
	$(BIN)/python -m pytest -m "not slurm"

# What pip installs elsewhere, into dist/ (docs/package.md).
wheel: $(VENV)/.core
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

# That, in an empty environment of each Python that is here: the libraries are downloaded anew, a minute or two for each.
test-wheel: $(VENV)/.all
	$(BIN)/python -m pytest tests/test_wheel.py tests/test_module.py

# Builds both legacy environments on first use (docs/legacy.md); what has no interpreter here is skipped.
test-legacy: $(VENV)/.all
	$(BIN)/python -m pytest -m legacy tests/test_legacy_environments.py

# Starts a Slurm of four nodes on this machine (Debian's packages, as root) and ends it.
test-slurm: $(VENV)/.all
	$(BIN)/python -m pytest -m slurm tests/slurm

# Converter against the official routes, into docs/benchmark.md: hours. BENCH="single idle --repeats 1" does a part of it.
bench: $(VENV)/.all
	$(BIN)/python benchmarks/bench.py $(BENCH)

# Models that nobody here wrote, by Converter and by the official routes, into docs/corpus.md: hours. CORPUS="--families timm".
corpus: $(VENV)/.all
	$(PIP) --no-deps --requirement requirements-corpus.txt
	PYTHONPATH=workflow:benchmarks $(BIN)/python -m corpus $(CORPUS)

# The node tests of the onnx package, each converted, into docs/onnx-operators.md: half an hour. ONNX_NODES="--only test_resize".
onnx-nodes: $(VENV)/.all
	PYTHONPATH=workflow:benchmarks:scripts $(BIN)/python -m onnx_nodes $(ONNX_NODES)

# What takes most of an hour: 200 kills, full disks, no memory, strange sources, a thousand conversions (docs/reliability.md).
test-faults: $(VENV)/.all
	$(BIN)/python -m pytest -s tests/test_faults.py tests/test_strange_sources.py tests/test_determinism.py tests/test_soak.py

fuzz: $(VENV)/.all
	cd tests && PYTHONPATH=../workflow ../$(BIN)/python -m fuzz --cases 2600 --export

# Seeded faults in exported files: which of them would be published. Writes the table into docs/reliability.md.
mutation: $(VENV)/.all
	cd tests && PYTHONPATH=../workflow OMP_NUM_THREADS=1 ../$(BIN)/python -m mutation --write $(MUTATION)

# Hashes of the pinned packages, PyTorch's apart: its builds for CPU and GPU share a version and differ in their bytes.
TOOLS := .venv-tools
$(TOOLS)/.ready: supply/requirements.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --requirement supply/requirements.txt
	touch $@

lock: $(TOOLS)/.ready
	$(TOOLS)/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --constraint constraints.txt requirements.txt requirements-dev.txt --output-file requirements.lock

# Set up from the hashes: any other byte than when they were recorded is refused.
locked:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock

# ADVISORIES=FOLDER: against a snapshot instead, where the service is out of reach (supply/audit.py).
audit: $(TOOLS)/.ready
	$(TOOLS)/bin/python supply/audit.py $(TOOLS)/bin/pip-audit $(ADVISORIES)

licences: $(VENV)/.all
	$(PIP) --no-deps --requirement requirements-corpus.txt
	$(BIN)/python supply/licences.py docs/licences.md
