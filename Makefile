# The daily words; CI and CONTRIBUTING use the same. Every target makes the environment it needs by itself.

PYTHON ?= python3
ROUNDS ?= 200
SEED ?= 1
BIN := .venv/bin
REQUIREMENTS := $(wildcard requirements/*.txt) pyproject.toml scripts/environment.sh
MARKS := not vendors and not packaging and not operation and not campaign
# Tests wait for much, so two processes more than there are cores keep these busy.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(4, 2 + (os.cpu_count() or 1)))")
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
SUITE := -m pytest $(PARALLEL) -m "$(MARKS)"
EXPLORED = -m pytest $(PARALLEL) -m "hypothesis and $(MARKS)" --hypothesis-profile others --hypothesis-seed $(SEED)
LANGCHAIN := tests/langchain_agentchat tests/agentchat_demo
# What leans on a library: servers, sockets, drivers, encoders. The rest of the suite knows no versions.
LEANING := tests/langchain_agentchat tests/clients tests/executor tests/docs tests/relay/postgres tests/relay/blobs \
	$(addprefix tests/relay/keeping/test_,move.py postgres.py backup.py) $(addprefix tests/relay/test_,arguments.py \
	connections.py events.py files.py http.py lifecycle.py openapi.py results.py store.py store_sqlite.py streams.py \
	uploads.py)
MATRIX := vendors operation oldest oldest-agents newest
# What stands above the store, and knows no engine.
ENGINELESS := tests/relay/postgres tests/relay/blobs $(addprefix tests/relay/test_,arguments.py bounds.py config.py connections.py \
	daemon.py http.py links.py local.py local_parity.py logs.py media.py metrics.py openapi.py serve.py uploads.py)
# What clients see of a relay, and see the same of where there is none.
WITHOUT_RELAY := messages inbox mentions read_state reading search agents waiting groups scopes tasks locks interrupts \
	pauses approvals approvals_later
# Modules marked `agents` as a whole import LangGraph at their top, where deselecting their tests comes too late.
AGENTS_ONLY := $(addprefix tests/langchain_agentchat/,test_blocking.py test_callbacks.py test_callbacks_waiting.py)

# Where it is set, each of hundreds of processes would compile our modules anew, and pytest its tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install check test environments test-matrix matrix-parallel matrix-single explore faults \
	faults-controls faults-rounds definitions demo serve bench clean

help:
	@echo "make demo | test | check | test-matrix | explore SEED=s | faults ROUNDS=n SEED=s | bench | definitions | serve | install | clean"

install: .venv/ready

# Environment .venv-NAME holds requirements/NAME.txt; plain .venv is the developer's.
.venv/ready: $(REQUIREMENTS)
	@sh scripts/environment.sh "$(PYTHON)" .venv dev

.venv-%/ready: $(REQUIREMENTS)
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
	$(BIN)/python scripts/reference.py --check
	$(BIN)/python scripts/rest.py --check

# What waits for networks and processors goes on side by side.
environments:
	@$(MAKE) --no-print-directory --jobs 4 $(addsuffix /ready,.venv $(addprefix .venv-,$(MATRIX)))

test-matrix: environments
	@$(MAKE) --no-print-directory --jobs 2 WORKERS=3 matrix-parallel matrix-single

matrix-parallel:
	$(BIN)/python $(SUITE) --engine postgres tests/relay $(addprefix --ignore ,$(ENGINELESS))
	$(BIN)/python $(SUITE) --mode local $(addprefix tests/relay/test_,$(addsuffix .py,$(WITHOUT_RELAY)))
	.venv-oldest/bin/python -m pytest $(PARALLEL) -m "$(MARKS) and not agents" $(addprefix --ignore ,$(AGENTS_ONLY)) $(LEANING)
	.venv-oldest-agents/bin/python $(SUITE) $(LANGCHAIN)
	.venv-newest/bin/python $(SUITE) tests/langchain_agentchat  # differs from .venv in LangChain only

matrix-single:
	.venv-vendors/bin/python -m pytest -m vendors tests/vendors
	.venv-operation/bin/python -m pytest -m operation tests/operation
	$(BIN)/python -m pytest -m packaging

# `make test` and `make test-matrix` try the same examples each time. These are others, of another SEED.
explore: .venv/ready .venv-operation/ready
	$(BIN)/python $(EXPLORED) tests
	$(BIN)/python $(EXPLORED) --engine postgres tests/relay $(addprefix --ignore ,$(ENGINELESS))
	AGENTCHAT_SEED=$(SEED) .venv-operation/bin/python -m pytest -m operation tests/operation/test_schemathesis.py

# One after the other; CI has them side by side.
faults: faults-controls faults-rounds

faults-controls: .venv/ready
	$(BIN)/python -m pytest $(PARALLEL) -m campaign tests/faults

faults-rounds: .venv/ready
	$(BIN)/python -m tests.faults.campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.relay_campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.disk_campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.postgres_campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.delivery_campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.tasks_campaign --rounds $(ROUNDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.locks_campaign --rounds $(ROUNDS) --seed $(SEED)

bench: .venv/ready
	$(BIN)/python bench/imports.py $(BENCH)
	$(BIN)/python bench/client.py $(BENCH)
	$(BIN)/python bench/relay.py $(BENCH)
	$(BIN)/python bench/push.py $(BENCH)
	$(BIN)/python bench/local.py $(BENCH)
	$(BIN)/python bench/coordination.py $(BENCH)
	$(BIN)/python bench/postgres.py $(BENCH)
	$(BIN)/python bench/scale.py $(BENCH)
	$(BIN)/python bench/scale.py --engine postgres $(BENCH)
	$(BIN)/python bench/tools.py $(BENCH)
	$(BIN)/python bench/callback.py $(BENCH)

definitions: .venv/ready
	$(BIN)/python scripts/definitions.py
	$(BIN)/python scripts/reference.py
	$(BIN)/python scripts/rest.py

demo serve: .venv/ready
	@$(BIN)/agentchat $@

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
