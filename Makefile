# Targets that start from nothing but make and Python 3.11 or newer; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Its age tells whether the environment is older than what pyproject.toml asks for.
STAMP := $(VENV)/.installed
ARGS ?=
SEED ?= 0
# What `make flash-test` emulates.
ARCH ?= amd64
# Tests of whole federations wait more than they compute: one worker more than there are cores.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# Where the data of the examples is, for `make examples`.
MNIST ?= data/mnist
LETTERS ?= data/letters
EXAMPLE := $(BIN)/python -m examples.run

# What `make coverage` runs: the unit tests of what [tool.coverage.report] lists, without random histories, and with
# the same draws each time, so that what they reach today is reached tomorrow.
CORE_TESTS := --hypothesis-seed=0 tests/aggregator/coordinator tests/aggregator/test_uploads.py tests/aggregator/test_stopping.py \
	$(wildcard tests/aggregator/test_intake*.py tests/edge_agent/test_lifecycle*.py) \
	$(addprefix tests/edge_agent/test_, $(addsuffix .py, availability conditions downloads pausing schedule speed uploads)) \
	tests/broker/test_partfile.py tests/broker/test_download.py \
	$(addprefix --ignore=, $(wildcard tests/*/*_rules.py tests/*/*/*_rules.py))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo monitor dashboard watched examples test fuzz fuzz-codec coverage chaos simulate simulate-long lint format docs arm-check deb flash-test
.PHONY: clean mosquitto systemd sshd fat chromium

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP) mosquitto fat ## make .venv with everything, and see that Mosquitto and mtools are there

demo: install ## three devices on this machine train one model; options by ARGS="--rounds 5"
	$(BIN)/midge demo $(ARGS)

monitor: watched ## see the demo of another terminal in this one
	$(BIN)/midge monitor --demo $(ARGS)

dashboard: watched ## see it in a browser
	$(BIN)/midge dashboard --demo $(ARGS)

# Nothing is installed here: the demo's terminal may be doing it.
watched:
	@[ -e $(STAMP) ] || { echo "first, in another terminal: make demo" >&2; exit 1; }

examples: install ## figures and pictures of all examples, half an hour; MNIST=DIR LETTERS=DIR
	$(EXAMPLE) xor_genetic --seeds 10 --write
	$(EXAMPLE) letters --data $(LETTERS) --seeds 5 --write
	$(EXAMPLE) digits_missing --data $(MNIST) --seeds 5 --write
	$(EXAMPLE) mnist_logistic --data $(MNIST) --seeds 5 --write

test: install systemd sshd chromium lint ## style, types, imports, all tests on every core
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile $(ARGS)

fuzz: $(STAMP) ## 2,000 damaged training programs; options by ARGS="--count 200"
	$(BIN)/python -m tests.fuzz.programs $(ARGS)

simulate: $(STAMP) ## one simulated fleet again, with what happened last; SEED=129
	$(BIN)/python -m tests.simulator.again $(SEED)

simulate-long: $(STAMP) ## 10,000 simulated fleets on which everything goes wrong, some minutes on every core
	MIDGE_SIMULATED_SEEDS=10000 $(BIN)/pytest --numprocesses=auto tests/simulator/test_simulated_chaos.py $(ARGS)

chaos: $(STAMP) mosquitto ## runs while 100 processes are killed and links fail; options by ARGS="--kills 1000"
	$(BIN)/python -m tests.chaos.run $(ARGS)

fuzz-codec: $(STAMP) ## ten million damaged messages, updates, programs and topics; options by ARGS="--inputs 1000000"
	$(BIN)/python -m tests.fuzz.codec $(ARGS)

coverage: install ## branches that the unit tests of the cores and of transfers take; fails below 100 %
	$(BIN)/coverage run -m pytest -q $(CORE_TESTS)
	$(BIN)/coverage report

lint: $(STAMP) ## style, types and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(STAMP) ## bring the generated tables of docs/ up to date
	$(BIN)/python -m docs.generate

arm-check: $(STAMP) ## install and train on an emulated 64-bit ARM processor, and compare with Keras; some minutes
	@sh tests/arm/fetch.sh build/arm-check
	@rm -rf build/arm-check/wheelhouses
	@$(BIN)/midge wheelhouse build/arm-check/wheelhouses
	@PYTHONPATH=. $(BIN)/python tests/arm/check.py build/arm-check

deb: $(STAMP) ## Debian packages of agent, aggregator and registrar into dist/, and a look at them; some minutes
	for arch in amd64 arm64; do for python in 3.11 3.13; do \
		$(BIN)/python -m deploy.package.deb agent --arch $$arch --python $$python || exit 1; done; done
	for service in aggregator registrar; do $(BIN)/python -m deploy.package.deb $$service || exit 1; done
	sh tests/package/check.sh dist

flash-test: install ## boot flashed cards in QEMU, half an hour; needs root; ARCH="amd64 arm64", amd64 by itself
	@for arch in $(ARCH); do \
		sh tests/flash/fetch.sh build/flash-test $$arch && \
		PYTHONPATH=. $(BIN)/python -m tests.flash.run build/flash-test $$arch || exit 1; \
	done

clean: ## remove what these targets made, .venv included
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

mosquitto:
	@sh deploy/bootstrap/mosquitto.sh

systemd:
	@sh deploy/bootstrap/systemd.sh

chromium:
	@sh deploy/bootstrap/chromium.sh

sshd:
	@sh tests/deploy/sshd.sh build/sshd

fat:
	@sh deploy/bootstrap/fat.sh

.PHONY: promtool
promtool:
	@sh deploy/bootstrap/promtool.sh

test: promtool

$(STAMP): pyproject.toml examples/xor_genetic/runtime/pyproject.toml
	@sh deploy/bootstrap/python.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[demo]" --editable examples/xor_genetic/runtime --group dev
	@touch $@
