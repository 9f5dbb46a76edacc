# Tasks of flexbus. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
UV := .venv/bin/uv
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup tools lock demo test lint audit bench chaos fuzz soak down

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.ready ## make the environment in .venv from the locked versions

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(UV) || { $(PYTHON) -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check "uv==0.13.9"; }
	@$(UV) pip install -q --python $(PY) --require-hashes -r requirements.lock
	@$(UV) pip install -q --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

lock: ## resolve the locked versions again
	@$(UV) pip compile -q --python-version 3.11 --no-emit-index-url --generate-hashes --no-header --all-extras pyproject.toml -o requirements.lock

demo: setup ## one whole market day on a real grid and a real Kafka  [GRID= DAY= SPEED= SECURE=1]
	@.venv/bin/flexbus demo $(if $(GRID),--grid $(GRID)) $(if $(DAY),--day $(DAY)) $(if $(SPEED),--speed $(SPEED)) $(if $(SECURE),--secure)

tools: .venv/.tools ## what the tests need beside Python packages: Prometheus, kubeconform, Node, Maven, Chromium ...

.venv/.tools: tests/tools.sh .venv/.ready
	@tests/tools.sh .venv/bin
	@touch $@

# What needs most of the machine runs in processes of its own: the clients of many Kafkas leave threads behind.
PYTEST := .venv/bin/pytest --dist loadfile --no-loadscope-reorder -n $(or $(WORKERS),3) -m "not alone and not long"

test: setup tools ## the test suite, on a real Kafka; `make soak` has what takes longer  [WORKERS=3]
	@$(PYTEST) tests/contract tests/property tests/unit
# The longest files begin first, so that nobody waits for them at the end.
	@$(PYTEST) tests/acceptance/test_kill.py tests/integration/test_sequencer.py tests/acceptance tests/integration
	@.venv/bin/pytest -m "alone and not long"

lint: setup ## ruff, strict mypy, import rules
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

audit: setup ## known vulnerabilities of the locked dependencies  [REQUIRED=1 fails where nobody can be asked]
	@.venv/bin/python -m tests.audit $(if $(REQUIRED),--required)

bench: setup ## speed as ratios against a bare loop in the same run
	@.venv/bin/python -m tests.bench

chaos: setup ## kill -9 under load, then count what was lost or doubled  [SEED= KILLS=]
	@.venv/bin/python -m tests.chaos SEED=$(SEED) KILLS=$(KILLS)

fuzz: setup ## codec, sequencer input and CLI files against whatever may come  [RUNS=10000 SEED=]
	@.venv/bin/python -m tests.fuzz RUNS=$(RUNS) SEED=$(SEED)
	@.venv/bin/pytest -q --hypothesis-profile=fuzz --timeout=3000 tests/property/test_fuzz.py -k faults
	@.venv/bin/pytest -q --hypothesis-profile=new tests/property

soak: setup ## ten minutes at 1,200 offers/s: latency and memory; floods, strange batches, a slow disk  [MINUTES=10]
	@.venv/bin/python -m tests.bench.soak $(if $(MINUTES),--minutes $(MINUTES))
	@.venv/bin/pytest -m long

down: ## stop what a broken run left behind
	@test ! -x .venv/bin/flexbus || .venv/bin/flexbus down
