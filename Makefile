# The daily words; CI and CONTRIBUTING use the same. Every target makes the environment it needs by itself.

PYTHON ?= python3
ROUNDS ?= 200
SEED ?= 1
BIN := .venv/bin
SUITE := -m pytest -m "not vendors and not packaging"

.PHONY: help install check test test-matrix faults definitions demo serve bench clean

help:
	@echo "make demo | test | check | test-matrix | faults ROUNDS=n SEED=s | bench | definitions | serve | install | clean"

install: .venv/ready

# Environment .venv-NAME holds requirements/NAME.txt; plain .venv is the developer's.
.venv/ready: requirements/dev.txt requirements/test.txt pyproject.toml scripts/environment.sh
	@sh scripts/environment.sh "$(PYTHON)" .venv dev

.venv-newest/ready: requirements/newest-no-deps.txt

.venv-%/ready: requirements/%.txt requirements/test.txt pyproject.toml scripts/environment.sh
	@sh scripts/environment.sh "$(PYTHON)" .venv-$* $*

test: .venv/ready
	$(BIN)/python $(SUITE)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python scripts/house_rules.py
	$(BIN)/python scripts/definitions.py --check

test-matrix: .venv/ready .venv-vendors/ready .venv-oldest/ready .venv-newest/ready
	.venv-vendors/bin/python -m pytest -m vendors tests/vendors
	.venv-oldest/bin/python $(SUITE)
	.venv-newest/bin/python $(SUITE) --ignore tests/relay --ignore tests/faults  # differs in langchain-core only
	$(BIN)/python -m pytest -m packaging

faults: .venv/ready
	$(BIN)/python -m tests.faults.campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.relay_campaign --rounds $(ROUNDS) --seed $(SEED)

bench: .venv/ready
	$(BIN)/python bench/imports.py $(BENCH)
	$(BIN)/python bench/client.py $(BENCH)
	$(BIN)/python bench/relay.py $(BENCH)

definitions: .venv/ready
	$(BIN)/python scripts/definitions.py

demo serve: .venv/ready
	@$(BIN)/agentchat $@

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
