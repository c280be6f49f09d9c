PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Tests on real data skip, saying so, where this folder is absent.
TKRE_DATA_DIR ?= $(wildcard ../shared/data)
ifneq ($(TKRE_DATA_DIR),)
export TKRE_DATA_DIR := $(abspath $(TKRE_DATA_DIR))
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test test-min check format cover bench clean
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
setup: .venv/installed  ## make .venv with the exact versions of constraints.txt
demo: setup  ## train both stages on the bundled corpus, evaluate, write ./tkre-bert (minutes on two cores)
	.venv/bin/python -m tkre_hf.cli demo
test: setup  ## run the tests
	.venv/bin/python -m pytest
test-min: .venv-min/installed  ## run the tests on the oldest supported versions, in .venv-min
	.venv-min/bin/python -m pytest
check: setup  ## lint, formatting, types
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy
format: setup  ## sort imports and format, in place
	.venv/bin/python -m ruff check --select I --fix
	.venv/bin/python -m ruff format
cover: setup  ## run the tests and report the lines they don't reach
	.venv/bin/python -m coverage run -m pytest
	.venv/bin/python -m coverage report
bench: setup  ## run every benchmark
	set -e; for script in benchmarks/*.py; do .venv/bin/python $$script; done
clean:  ## remove the environments and the tools' caches
	rm -rf .venv .venv-min .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp goes first and comes back last: a set-up that was interrupted starts again from nothing.
.venv/installed: EXTRAS = dev,demo,peft,serve
.venv/installed: constraints.txt
.venv-min/installed: EXTRAS = dev,demo,peft,tgi
.venv-min/installed: constraints-min.txt
.venv/installed .venv-min/installed: pyproject.toml
	if [ -f $@ ]; then rm $@; else $(PYTHON) -m venv --clear $(@D); fi
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -c $(filter constraints%,$^) -e '.[$(EXTRAS)]'
	touch $@
