# `make help` lists the targets. The environment is made from the lock files alone and remade when they change.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
# the stages run `python`, which must be the environment's
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help repro restore flow schedule versions test test-quick env env-test check lint lock bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: env check ## fetch MNIST, train, evaluate, draw and report; what has not changed is skipped
	@dvc repro || { status=$$?; $(MAKE) --no-print-directory restore 2>/dev/null; exit $$status; }

restore: env ## bring back the results that dvc.lock names, after a run that was stopped: DVC removes them before a stage runs
	@dvc checkout --quiet --allow-missing; git ls-files -z --deleted -- data | xargs -0r git checkout --quiet --

flow: env check ## the same as one Prefect run; ARGS="--set train.steps=1000 --stage train", or ARGS=--help
	@$(BIN)/python -m flows.pipeline $(ARGS)

schedule: env check ## serve the flow on a schedule; ARGS='--cron "0 2 * * *" --timezone Europe/Berlin', or ARGS=--help
	@$(BIN)/python -m flows.schedule $(ARGS)

versions: env ## list the recorded runs with their metrics
	@$(BIN)/python -m flows.versions list

test: env-test ## all tests (about ten minutes on two cores)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-quick: env-test ## the tests that take seconds (under two minutes)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

env: $(VENV)/.installed ## make the environment in .venv

env-test: $(VENV)/.installed-test

check: env ## check params.yaml
	@$(BIN)/gan check

lint: env-test ## check style
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .

lock: ## renew the lock files from requirements*.in (newest versions within their bounds)
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	for name in requirements requirements-test requirements-bench; do \
	  $(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url $$name.in -o $$name.lock || exit 1; \
	done

bench: env $(VENV)-bench/.installed ## speed of a training step beside NumPy, PyTorch, JAX and the published loop (needs data/raw)
	@$(BIN)/python -m benchmarks.train_speed $(ARGS)

clean: ## remove the environment, checkpoints and caches of tools; results and DVC's cache stay
	rm -rf $(VENV) $(VENV)-bench $(VENV)-lock .scratch .pytest_cache .ruff_cache

# --no-deps: a lock names every package, and pip's resolver trips over hashed packages that are wanted with extras
$(VENV)/.installed: requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; install Python 3.11 or run make PYTHON=<your python>"; exit 1; }
	@echo "making the environment in $(VENV) (one to two minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-test.lock
	@touch $@

# PyTorch stands outside the lock: one version has builds of several hashes, and any of them runs on the processor
$(VENV)-bench/.installed: requirements-bench.lock
	@echo "making the peers' environment in $(VENV)-bench"
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-bench.lock
	@$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@
