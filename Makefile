# make demo: train both stages on real digits and sample new ones.  make test: everything that CI checks.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo test faults mutants lint clean lock

demo: $(READY)
	$(BIN)/python -m pipelines.run experiment=mnist5k output=runs/demo

test: lint
	$(BIN)/python -m pytest -n 2

# Kills, full disks, damaged and evil files: counts what survives. Minutes; --markdown gives the table of docs/reliability.md.
faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

# Breaks lines of PATHS one at a time and shows those that no test notices. TESTS: others than the files' own.
# SAMPLE: how many places of each file.
mutants: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(PATHS) $(if $(TESTS),--tests $(TESTS)) $(if $(SAMPLE),--sample $(SAMPLE))

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml requirements/cpu.txt requirements/pypi.txt
	$(PYTHON) -m venv .venv
	requirements/install.sh $(BIN)/python
	touch $@

# Versions and SHA-256 of all packages anew, after a change of pyproject.toml or constraints.txt.
lock:
	requirements/lock.sh

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
