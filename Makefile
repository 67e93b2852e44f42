# Each target sets itself up in .venv from a fresh clone: Python >= 3.11, make and pip are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long check bench faults fuzz rules audit-deps mutants clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/credible demo --out out/demo

test: $(STAMP)
	$(BIN)/python -m pytest

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Faults of the machine: kills, failing system calls, full disks, jumping clocks. Needs Linux; installs its tools as root.
faults: $(STAMP)
	for tool in strace faketime; do command -v $$tool >/dev/null || apt-get install -y -qq $$tool || echo "$$tool missing: its tests are skipped"; done
	$(BIN)/python -m pytest -m faults -rP tests/faults

# Every parser for FUZZ_SECONDS (60 unless said).
fuzz: $(STAMP)
	$(BIN)/python -m pytest -m fuzz tests/fuzz

# For every rule of the specification, a change of the code that its test must notice.
rules: $(STAMP)
	$(BIN)/python -m benchmarks.rules check

# Known advisories of everything that is installed.
audit-deps:
	test -x $(VENV)-audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit)
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

# Seeded mutants of verifier, log and penalty modules; goes on from out/mutants.json.
mutants: $(STAMP)
	$(BIN)/python -m benchmarks.mutants

clean:
	rm -rf out runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
