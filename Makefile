# Everything a fresh machine needs: `make demo` and `make test`. The environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED := $(VENV)/.installed
# a file of tests per process, a core for each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: demo test check check-slow check-faults check-tensorflow bench clean

demo: $(INSTALLED)
	$(BIN)/python run_pipeline.py --data demo
	$(BIN)/python run_pipeline.py --data demo --detector mahalanobis,gmm,knn

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

check-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

check-faults: $(INSTALLED)
	$(BIN)/python -m pytest -m faults -s

check-tensorflow: $(INSTALLED)
	$(PIP) -e '.[test,vggish]'
	$(BIN)/python -c "import tensorflow, tensorflow_hub"
	$(BIN)/python -m pytest -m tensorflow

bench: $(INSTALLED)
	for each in benchmarks/bench_*.py; do $(BIN)/python $$each || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test]'
	touch $@
