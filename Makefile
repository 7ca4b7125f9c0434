# make demo    sets up, then records, inspects, trains and evaluates on Dark Room: the whole road
# make test    sets up and runs the tests
# make check   tests, lint, format and types
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HIST := $(abspath $(BIN))/hist

.PHONY: demo test check lint clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Killed and called again, every step goes on where it stopped.
demo: $(VENV)/installed
	mkdir -p demo
	cd demo && $(HIST) record --algo ppo --env darkroom --seeds 0-323
	cd demo && $(HIST) inspect darkroom-ppo
	cd demo && $(HIST) train darkroom-ppo --out ad
	cd demo && $(HIST) train darkroom-ppo --out ed --method ed
	cd demo && $(HIST) evaluate ad --compare ed --episodes 60

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

clean:
	rm -rf $(VENV) build dist *.egg-info demo
