# Everything a fresh machine needs: `make demo` and `make test`. The environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED := $(VENV)/.installed
# a file of tests per process, a core for each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: demo test check check-slow check-faults check-tensorflow check-ray bench bench-gpu bench-guard docs results lock clean

# the job on toy recordings, then a model of the normal ones and its verdict on a bad and a good clip;
# `check` ends with 4 where a clip is anomalous
CHECK := $(BIN)/python run_pipeline.py check --model demo_model --machine slider_id_00 --explain
demo: $(INSTALLED)
	$(BIN)/python run_pipeline.py --data demo
	$(BIN)/python run_pipeline.py learn demo_data --model demo_model
	$(CHECK) demo_data/slider/test/anomaly_id_00_00000002.wav || test $$? -eq 4
	$(CHECK) demo_data/slider/test/normal_id_00_00000003.wav
	@echo
	@echo "What next? First: source $(BIN)/activate"
	@echo "  your machines:  python run_pipeline.py learn RECORDINGS --model my_model    (a folder per machine)"
	@echo "                  python run_pipeline.py check NEW.wav --model my_model --machine MACHINE"
	@echo "  methods:        python run_pipeline.py --data demo --detector mahalanobis,gmm,knn"
	@echo "  the page of the run above is report.html in the newest folder of runs/; README.md has the rest"

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

check-ray: $(INSTALLED)
	$(PIP) -e '.[test,ray]'
	$(BIN)/python -m pytest -m ray

# records of encoders, detectors and cache, and the tables of benchmarks/README.md from them
RECORDED := encoders detectors cache
OTHER_BENCHES := reruns sizes thresholds
bench: $(INSTALLED)
	for each in $(RECORDED); do $(BIN)/python benchmarks/bench_$$each.py --json benchmarks/records || exit 1; done
	$(BIN)/python benchmarks/tables.py --write
	for each in $(OTHER_BENCHES); do $(BIN)/python benchmarks/bench_$$each.py || exit 1; done

bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/bench_gpu.py --json gpu.json

bench-guard: $(INSTALLED)
	$(BIN)/python benchmarks/guard.py

docs: $(INSTALLED)
	$(BIN)/python docs/make_pages.py
	test -d demo_model || $(BIN)/python run_pipeline.py learn demo_data --model demo_model
	$(BIN)/python docs/make_picture.py

# the table of results in the README, from the demo
results: $(INSTALLED)
	$(BIN)/python docs/make_results.py

# after a change of dependencies; pip takes the same versions from constraints.txt
UV ?= uv
lock:
	$(UV) lock
	echo "# From uv.lock, by make lock: for pip. A build of torch for the CPU fits its version too." > constraints.txt
	$(UV) export --quiet --locked --all-extras --no-hashes --no-emit-project --no-annotate --no-header >> constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test]'
	touch $@
