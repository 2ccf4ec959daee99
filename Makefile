# Two commands do everything on a fresh Debian 12 or Ubuntu machine: `make demo` and `make test`.
SHELL := /bin/bash
BIN := .venv/bin
SUITES ?= ../shared/suites
DATAPLANE ?= pure
OUTPUT ?= text
SCENARIO ?= all

.PHONY: help demo test conformance fuzz test-compose chaos bench lint setup clean

help: ## show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## run the main job: a shop of pods, real packets, four trials
	@$(BIN)/tabard demo $(DEMO)

test: setup lint ## all tests; as root on Linux the eBPF and NATS tests must run
	@$(BIN)/pytest $(PYTEST)

conformance: setup ## other projects' cases; SUITES=DIR DATAPLANE=pure|memory|ebpf OUTPUT=json ONLY=SUITE/CASE
	@PYTHONPATH=tests $(BIN)/python -m conformance '$(SUITES)' --dataplane '$(DATAPLANE)' \
		--output '$(OUTPUT)' $(foreach one,$(ONLY),--only '$(one)')

fuzz: setup ## opinions on random policies agree; TARGET=parsers|NAME: bent input is taken or refused; SECONDS=60 SEED=1
	@PYTHONPATH=tests $(BIN)/python -m fuzzing$(if $(TARGET),.parsers '$(TARGET)') $(if $(SECONDS),--seconds '$(SECONDS)') \
	  $(if $(SEED),--seed '$(SEED)')

test-compose: setup ## build the image, bring compose/ up on an engine of its own, prove and kill; root, minutes
	@TABARD_TEST_COMPOSE=1 $(BIN)/pytest tests/compose $(PYTEST)

chaos: setup ## break a real cluster on purpose and judge it; SCENARIO=all SEED=7 MINUTES=60; root
	@$(BIN)/tabard chaos run '$(SCENARIO)' $(if $(SEED),--seed '$(SEED)') $(if $(MINUTES),--minutes '$(MINUTES)')

bench: setup ## measure; ONLY=name,… LIST=1 (what there is) FORMAT=markdown|summary SCALE=0.1 SHOW=1 (the last again)
	@PYTHONPATH=tests $(BIN)/python -m bench $(if $(LIST),--list) $(if $(SHOW),--show) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(FORMAT),--format $(FORMAT)) $(if $(SCALE),--scale $(SCALE))

lint: setup ## format, lint and type checks
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy

setup: ## install what is missing (quick when all is there)
	@.ci/setup

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
