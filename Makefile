PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Tests on real data skip, saying so, where this folder is absent.
TKRE_DATA_DIR ?= $(wildcard ../shared/data)
ifneq ($(TKRE_DATA_DIR),)
export TKRE_DATA_DIR := $(abspath $(TKRE_DATA_DIR))
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Two test processes of one thread each: the models of the tests are tiny. Files in their own order: by their number of
# tests, as is the default, the few long ones come last, and one process waits for the other.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup browser demo test test-min check format cover bench docs clean
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
setup: .venv/installed  ## make .venv with the exact versions of constraints.txt
browser:  ## install Chromium and its driver with apt-get, where they are missing: a test needs them, and skips without
	@if command -v chromium && command -v chromedriver; then exit; fi; \
	command -v apt-get || { echo "There is no apt-get here: install Chromium and its chromedriver with your system's own \
	package manager, so that 'chromium' and 'chromedriver' are on the PATH." >&2; exit 1; }; \
	root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo "$$@"; fi; }; \
	root apt-get update -q && \
	root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium chromium-driver
demo: setup  ## train both stages on the bundled corpus, evaluate, write ./tkre-bert (minutes on two cores)
	.venv/bin/python -m tkre_hf.cli demo
test: setup  ## run the tests
	$(call PYTEST,.venv)
test-min: .venv-min/installed  ## run the tests on the oldest supported versions, in .venv-min
	$(call PYTEST,.venv-min)
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
# Not those that others import or start, nor the one that makes an environment of its own and takes hours.
BENCHMARKS = $(filter-out %/setfit_peer.py %/straightforward.py %/kshot_vs_setfit.py, $(wildcard benchmarks/*.py))
bench: setup  ## run every benchmark but kshot_vs_setfit.py, which takes hours
	set -e; for script in $(BENCHMARKS); do .venv/bin/python $$script; done
docs: .venv/docs-installed  ## build the documentation site in build/docs; a warning, such as of a broken link, is an error
	.venv/bin/python -m sphinx -W --keep-going -q docs build/docs
clean:  ## remove the environments, the site and the tools' caches
	rm -rf build .venv .venv-min .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp goes first and comes back last: a set-up that was interrupted starts again from nothing.
.venv/installed: EXTRAS = dev,demo,peft,baselines,onnx,pyg,serve,spacy
.venv/installed: constraints.txt
.venv-min/installed: EXTRAS = dev,demo,peft,tgi
.venv-min/installed: constraints-min.txt
.venv/installed .venv-min/installed: pyproject.toml
	if [ -f $@ ]; then rm $@; else $(PYTHON) -m venv --clear $(@D); fi
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -c $(filter constraints%,$^) -e '.[$(EXTRAS)]'
	touch $@
# Apart from the rest, for neither the tests nor the checks need it.
.venv/docs-installed: .venv/installed
	.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
