# Nothing to build: these are short names for the commands below. Works with GNU make 3.81 and BSD make.

PYTHON ?= python3
FUZZ_SECONDS ?= 300

help:  ## show this list
	@sed -n 's/^\([a-z]*\):  *## \(.*\)/  make \1  @\2/p' Makefile | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

install:  ## put the gate in place (HOOKS_DIR=, CLAUDE_CONFIG_DIR=, CODEX_HOME=, PYTHON=), show the spend
	@$(PYTHON) .make/install.py install --python "$(PYTHON)"

uninstall:  ## take back exactly what install did
	@$(PYTHON) .make/install.py uninstall

demo:  ## see it work in a throwaway home, in a few seconds
	@$(PYTHON) .make/demo.py

test:  ## run the tests
	$(PYTHON) -m unittest discover -s tests

check:  ## are the two copies of the shared block the same?
	@$(PYTHON) .make/sync.py --check

sync:  ## copy the shared block from budget-check.py into cost-report.py
	@$(PYTHON) .make/sync.py

bench:  ## measure the gate's speed
	$(PYTHON) tests/bench.py

fuzz:  ## the random-input tests, for FUZZ_SECONDS (300)
	ARMLEDGER_FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) -m unittest discover -s tests -p 'test_fuzz*.py'

.PHONY: help install uninstall demo test check sync bench fuzz
