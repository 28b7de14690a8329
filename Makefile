# Every target builds .venv on its own: a fresh machine needs Python 3.11 and make, nothing else.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-ci test-all test-cuda test-pretended-gpu test-lowest test-newest peft-tests test-browser fuzz kill-trials check format bench clean docs

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.ready  ## compare every method on real data; writes runs/digits/
	$(BIN)/rankwise compare digits --output runs/digits

# Two processes, a thread each. A process works through neighbouring tests and takes over others' at the end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test: .venv/.ready  ## in a few minutes: every part by itself, within one process, offline
	$(PYTEST) -m "not runs and not processes and not browser and not slow and not cuda"

# The page of a comparison is tested in a real browser, where there is one.
CHROMIUM := $(or $(RANKWISE_CHROMIUM),$(shell command -v chromium))

# What CI has the time for, and then the sweeps too: interrupts at every line, hundreds of comparisons.
test-ci test-all: test-%: .venv/.ready  ## whole runs, worker processes, clusters, killed runs and the browser; test-all: the sweeps too
	$(if $(CHROMIUM),,@echo "no Chromium here: the tests of the page in a browser are left out")
	$(PYTEST) -m "not cuda$(if $(CHROMIUM),, and not browser)$(if $(filter ci,$*), and not slow)"
	$(if $(PRETENDS),$(MAKE) test-pretended-gpu,@echo "no g++ here, or CUDA in PyTorch: the tests on a pretended GPU are left out")

test-cuda: .venv/.ready  ## what needs a GPU: where bases wait, and the same numbers there
	$(BIN)/python -m pytest -m cuda

# A GPU whose operations are the CPU's: a tensor on the wrong device fails there, and autocast is a GPU's.
PRETENDS = $(if $(wildcard .venv/lib/*/site-packages/torch/lib/libtorch_cuda.so),,$(shell command -v g++))
PRETENDED_GPU := .venv/pretended-gpu.so
BESIDE_A_GPU := tests/capture tests/evaluation tests/export tests/functional/test_filtered.py tests/integrations \
	tests/methods/chain tests/methods/inits tests/methods/test_trainers_on_a_gpu.py \
	tests/robustness/test_under_autocast.py tests/tasks/own/test_preference.py tests/training

$(PRETENDED_GPU): tests/pretended_gpu/device.cpp tests/pretended_gpu/build.py .venv/.ready
	$(BIN)/python tests/pretended_gpu/build.py $@

# Quantised bases compute by kernels of their own, which a pretended one lacks.
test-pretended-gpu: $(PRETENDED_GPU)  ## what needs a GPU, and runs beside one, on one that is pretended: asks for g++
	$(PYTEST) -p tests.pretended_gpu -m "not browser and not processes and not slow" \
		--ignore tests/training/test_quantised_own_data.py $(BESIDE_A_GPU)

# Two environments of their own, at the ends of what pyproject.toml allows. What needs no other
# extras than theirs: mathematics, adapters, inits, chains, exports, and runs by both loops.
ENDS := tests/core tests/functional tests/capture tests/diagnostics tests/methods tests/export tests/training/test_run.py

.venv-%/.ready: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --constraint constraints-$*.txt --editable '.[test]'
	touch $@

test-lowest test-newest: test-%: .venv-%/.ready  ## the core at the lowest and newest versions allowed
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest --numprocesses 2 --dist worksteal -m "not processes and not slow and not cuda" $(ENDS)

peft-tests: .venv/.ready  ## PEFT's own tests of adapters, with our configs
	OMP_NUM_THREADS=1 $(BIN)/python scripts/peft_tests/run.py

test-browser: .venv/.ready  ## the page of a comparison in Chromium
	$(BIN)/python -m pytest tests/browser

fuzz: .venv/.ready  ## the readers of files, some forty, against 300 mutated ones each
	RANKWISE_FUZZ_EXAMPLES=300 $(BIN)/python -m pytest tests/robustness/test_fuzzed_files.py tests/robustness/test_fuzzed_results.py

kill-trials: .venv/.ready  ## runs and comparisons killed at random moments, resumed, and held against whole ones
	RANKWISE_KILL_TRIALS=60 $(BIN)/python -m pytest tests/robustness/test_kill_trials.py tests/robustness/test_killed_comparison.py

check: .venv/.ready  ## format, lint, types, imports
	scripts/check $(BIN)
	$(MAKE) docs

# References are made from the sources that lie here. Links, anchors and signatures are checked.
docs: .venv/.ready  ## the site of the documentation, in site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/mkdocs build --quiet --strict

format: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.ready  ## speed and memory: ours, peers, limits and targets in one table
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/all.py

clean:
	rm -rf .venv .venv-lowest .venv-newest .peft-tests runs build dist site
