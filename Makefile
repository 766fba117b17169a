# make run    serve the app on http://127.0.0.1:7860
# make test   formatting, lint, import rules, types and every test
# make check  the first four of these alone
# make results  the bundled checkpoint's numbers on the shipped held-out inputs, in results/

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check results format browser clean

run: .venv/run
	$(BIN)/python app.py

test: .venv/test browser check
	$(BIN)/python -m pytest

results: .venv/run
	$(BIN)/python -m analysis results --out results

check: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/run: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/test: .venv/run tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

# The browser tests drive Debian's chromium; without it (and without root to install it) they say so and are skipped.
browser:
	@if ! command -v chromium >/dev/null; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	            chromium fonts-liberation fonts-noto-color-emoji >/dev/null; \
	    else \
	        echo "chromium is missing: install it with your package manager to run the browser tests"; \
	    fi; \
	fi

clean:
	rm -rf .venv
