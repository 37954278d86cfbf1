# `make help` lists the targets. The environment is made from the lock files alone and remade when they change.
VENV := .venv
BIN  := $(VENV)/bin
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# DVC asks for the user's name, and in many a container there is none
export USER := $(or $(USER),$(LOGNAME),$(firstword $(shell (id -un || id -u) 2>/dev/null)))
# the stages run `python`, which must be the environment's; what makes the environment is looked for outside it
OUTSIDE := $(subst $(CURDIR)/$(BIN):,,$(PATH))
export PATH := $(CURDIR)/$(BIN):$(OUTSIDE)

# PYTHON, or the first of these that fits; looked for only where an environment is made
PYTHONS = $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)
FITS    = import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
WANTED  = Python 3.11, 3.12 or 3.13 with its module venv (Debian: python3-venv)
REFUSAL = $(if $(PYTHON),PYTHON=$(PYTHON) is not $(WANTED),found no $(WANTED): install one, or run make with PYTHON=<path of one>)
FITTING = $(or $(shell PATH='$(OUTSIDE)'; for python in $(PYTHONS); do \
  "$$python" -c '$(FITS)' 2>/dev/null && { echo "$$python"; break; }; done),$(error $(REFUSAL)))

.DEFAULT_GOAL := help
.PHONY: soak audit sbom many-machines help repro restore flow schedule server worker live screenshots versions test test-quick test-long env env-test check lint lock bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: env check ## fetch MNIST, train, evaluate, draw and report; what has not changed is skipped
	@trap : INT; dvc repro || { status=$$?; $(BIN)/gan restore; exit $$status; }

restore: env ## bring back the results that dvc.lock names, after a run that was stopped: DVC removes them before a stage runs
	@$(BIN)/gan restore

flow: env check ## the same as one Prefect run; ARGS="--set train.steps=1000 --stage train", or ARGS=--help
	@$(BIN)/gan flow $(ARGS)

schedule: env check ## serve the flow on a schedule; ARGS='--cron "0 2 * * *" --timezone Europe/Berlin', or ARGS=--help
	@$(BIN)/gan schedule $(ARGS)

server: env ## Prefect's server and page at http://127.0.0.1:4200; ARGS="--port 4300", for a team docs/team.md; Ctrl-C stops it
	@exec $(BIN)/gan server start $(ARGS)

worker: env ## take runs from a Prefect server: docs/team.md; ARGS="--queue gpu --queue cpu", or ARGS=--help; Ctrl-C stops it
	@exec $(BIN)/gan worker $(ARGS)

live: env $(VENV)-live/.installed ## watch training in TensorBoard at http://127.0.0.1:6006; Ctrl-C stops it, and not the training
	@$(BIN)/gan live --tensorboard $(VENV)-live/bin/tensorboard $(ARGS)

versions: env ## list the recorded runs with their metrics
	@$(BIN)/gan versions list

# many a test waits for a schedule or a server, so there are more processes than the two cores that the times are given for
test: env-test ## all tests but the longest (nine to fourteen minutes on two cores, 17 to 20 on slow ones)
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test-long: env-test ## the tests that take minutes each: a study on two workers
	@$(BIN)/python -m pytest -m long

test-quick: env-test ## the tests that take seconds (under two minutes)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

env: $(VENV)/.installed-project ## make the environment in .venv (PYTHON=<path> chooses a Python, INSTALLER=pip does without uv)

env-test: env $(VENV)/.installed-test ## and what the tests need

check: env ## check params.yaml
	@$(BIN)/gan check

lint: env-test ## check style
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .

lock: ## renew the lock files from requirements*.in (newest versions within their bounds)
	@"$(FITTING)" environment.py $(VENV)-lock requirements-installer.lock
	@for name in requirements requirements-test requirements-bench requirements-live requirements-audit requirements-installer; do \
	  $(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-package playwright --no-emit-package pyee $$name.in -o $$name.lock || exit 1; \
	done

many-machines: env-test ## a server, storage and workers on namespaces of this machine, while things break; as root, some ten minutes
	@$(BIN)/python -m tests.many_machines

soak: env-test ## make things go wrong by the thousand: docs/reliability.md; ARGS="inputs --count 500 --seed 7", or ARGS=--help
	@$(BIN)/python -m tests.soak $(ARGS)

audit: env-test $(VENV)-audit/.installed ## look for known weaknesses in what the lock files name, and try the list of parts
	@$(BIN)/python -m tests.soak "supply/known weaknesses" supply/parts

sbom: $(VENV)-audit/.installed ## write sbom.json: the parts that requirements.lock names, as CycloneDX
	@$(VENV)-audit/bin/cyclonedx-py requirements -i . --output-reproducible --of JSON -o sbom.json requirements.lock

bench: env $(VENV)-bench/.installed ## speed of a training step beside PyTorch, JAX and others (needs data/raw); ARGS="--set conditional-60s"
	@$(BIN)/python -m benchmarks.train_speed $(ARGS)

screenshots: env-test ## make the pictures in docs/ of the page and of Prefect's UI anew (needs a finished run and Chromium)
	@$(BIN)/python -m benchmarks.screenshots $(ARGS)

clean: ## remove the environment, checkpoints, what `make server` recorded and caches of tools; results and DVC's cache stay
	rm -rf $(VENV) $(VENV)-audit $(VENV)-bench $(VENV)-live $(VENV)-lock .scratch .pytest_cache .ruff_cache

# where FITTING was found
lock $(VENV)/.installed: export PATH := $(OUTSIDE)

# an environment's programs name its folder, and so does this mark: a checkout that was copied or renamed makes its own
$(VENV)/.installed: requirements.lock requirements-installer.lock
	@"$(FITTING)" environment.py $(VENV) requirements.lock
	@pwd -P >$@

# the project itself, in place: the command `gan`
$(VENV)/.installed-project: $(VENV)/.installed pyproject.toml requirements.in
	@$(BIN)/python environment.py $(VENV) .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	@$(BIN)/python environment.py $(VENV) requirements-test.lock
	@touch $@

# PyTorch stands outside the lock: one version has builds of several hashes, and any of them runs on the processor
$(VENV)-bench/.installed: requirements-bench.lock requirements-installer.lock | env
	@$(BIN)/python environment.py $(VENV)-bench requirements-bench.lock
	@$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@pwd -P >$@

# TensorBoard alone: training writes what it shows without it
$(VENV)-live/.installed: requirements-live.lock requirements-installer.lock | env
	@$(BIN)/python environment.py $(VENV)-live requirements-live.lock
	@pwd -P >$@

# what looks at the lock files from outside
$(VENV)-audit/.installed: requirements-audit.lock requirements-installer.lock | env
	@$(BIN)/python environment.py $(VENV)-audit requirements-audit.lock
	@pwd -P >$@

# what is made anew whatever its lock file says: of another folder
OUTDATED := $(shell for mark in $(VENV)/.installed $(VENV)-*/.installed; do \
  [ ! -e "$$mark" ] || { IFS= read -r path <"$$mark" && [ "$$path" = "$$(pwd -P)" ]; } || echo "$$mark"; done)
# and of another PYTHON than the one that is named
ifdef PYTHON
version_of = $(shell PATH='$(OUTSIDE)'; $(1) -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)
ifneq ($(call version_of,$(PYTHON)),$(call version_of,$(BIN)/python))
OUTDATED += $(VENV)/.installed
endif
endif
$(OUTDATED): anew
.PHONY: anew
anew:
