# make run    install what is missing into .venv, then run the embedded comparison
# make test   install what the tests need, then run them (GPU tests skip themselves where there is no GPU)
# make test-long   the tests that take minutes each and are left out of make test
# make lint   ruff and mypy
# make check  lint and test
# make docs   write the generated parts of the documents anew

PYTHON ?= python3
RECIPE ?= recipes/swav_compare.yaml
ARGS ?=
BIN := .venv/bin

.PHONY: run test test-long lint check docs
.DELETE_ON_ERROR:

run: .venv/installed
	$(BIN)/issl-engine run $(RECIPE) $(ARGS)

# One worker per core, each test file in one of them (its fixtures start ranks, which are dear), and one thread per process.
test: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile $(ARGS)

test-long: .venv/installed-test
	$(BIN)/python -m pytest -m long $(ARGS)

lint: .venv/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

docs: .venv/installed
	$(BIN)/python -m issl_engine.docs

.venv/installed: .venv/bin/activate pyproject.toml constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.venv/installed-check: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[check]'
	@touch $@ .venv/installed-test

# An environment that is half made (no pip) is made again; activate is the last file that venv writes.
.venv/bin/activate:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: $(PYTHON) is not installed; issl-engine needs Python 3.11 or newer (make PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one (make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) comes without venv or ensurepip; install them (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
