# The workshop. `make help` lists the targets; each also works alone on a bare machine.
SHELL := /bin/sh
LAB_NAME ?= lab
PYTHONS ?= 3.13 3.12 3.11
VENV ?= .venv
COLLECTION := .ansible/collections/ansible_collections/harvester_rke2/platform
TOOLS := tests/tools
VERSION = $(shell sed -n 's/^version: *//p' galaxy.yml)
TARBALL = .run/harvester_rke2-platform-$(VERSION).tar.gz

export LAB_NAME
export GOTOOLCHAIN := local
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help tools lab lab-up lab-down lab-status test lint roles-check sanity units integration molecule \
	collection collection-check fault bench test-cores docs lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 18

tools: ## system packages, virtual environment, Go, the link that makes a checkout importable
	@$(TOOLS)/system-packages
	@ln -sfn "$$($(TOOLS)/make-venv "$$($(TOOLS)/find-python $(PYTHONS))")" $(VENV)
	@$(TOOLS)/make-go $(VENV)
	@mkdir -p $(dir $(COLLECTION)) .run
	@ln -sfn ../../../.. $(COLLECTION)

lab: lab-up ## the whole platform on this machine: start, install, validate; it is left running
	ansible-playbook site.yml -i inventories/lab
	python -m lab check

lab-up: tools ## start the embedded platform (again: nothing happens)
	python -m lab up

lab-down: tools ## stop it: no process, mount or namespace is left
	python -m lab down

lab-status: tools ## every part: real, simulated or emulated, version, memory, log
	python -m lab status

test: tools ## everything that proves it (what .ci/run calls)
	@$(TOOLS)/steps lint roles-check sanity units collection-check docs integration molecule

lint: tools ## ruff, mypy, yamllint, ansible-lint, shellcheck, changelog
	@$(TOOLS)/system-packages shellcheck
	@$(TOOLS)/lint

roles-check: tools ## each role's argument_specs equals its defaults; each module is documented, grouped and honest
	python $(TOOLS)/check_roles.py
	python $(TOOLS)/check_plugins.py

sanity: collection ## ansible-test sanity on what is shipped, on each ansible-core whose Python is here
	@$(TOOLS)/system-packages shellcheck
	@$(TOOLS)/sanity $(TARBALL) $(PYTHONS)

units: tools ## unit tests on each ansible-core whose Python is here
	@$(TOOLS)/units $(PYTHONS)

integration: tools ## the site twice on a lab of its own, and the tests that look at the result
	$(TOOLS)/with-lab test $(TOOLS)/integration

molecule: tools ## every scenario, on a lab of its own
	$(TOOLS)/molecule

collection: tools ## the built tarball
	ansible-galaxy collection build --force --output-path .run .

collection-check: collection ## the tarball installed into an empty path, its documentation read from there
	$(TOOLS)/check-collection $(TARBALL)

fault: tools ## tests named after the fault they survive, two files at a time on a lab each
	$(TOOLS)/with-lab fault-gw0 $(TOOLS)/with-lab fault-gw1 pytest -n 2 --dist loadfile --no-loadscope-reorder tests/fault

bench: tools ## the benchmark table
	$(TOOLS)/with-lab bench python -m tests.bench

test-cores: tools ## the site on a lab of its own, with each ansible-core whose Python is here
	@$(TOOLS)/test-cores $(PYTHONS)

docs: tools ## the documentation site, in site/
	$(TOOLS)/make-docs site

lock: tools ## resolve requirements*.in into requirements*.txt again
	$(TOOLS)/lock

clean: ## what can be made again; labs and the cache of parts stay
	rm -rf .venv .run .ansible/home .mypy_cache .ruff_cache .pytest_cache site tests/output
