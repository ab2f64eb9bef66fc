# Every command of the project; `make train` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: train test types guard lint docs release-check benchmark gpu gpu-train learn2learn clean

train: $(VENV)/installed
	$(RUN) scripts/train_episodic.py

test: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -n 2 --dist worksteal -rs

# every method, seconds of training on glyphs, must reach its floor on validation classes
guard: $(VENV)/installed
	$(RUN) scripts/guard.py

# not part of `make test`: what mypy finds depends on torch's version
types: $(VENV)/installed-test
	$(RUN) -m mypy

lint: $(VENV)/installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(RUN) -m mypy

# the site, into build/site; a link that leads nowhere ends it
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

# before a release, by hand: hours
release-check:
	.ci/release-check

benchmark: $(VENV)/installed-test $(VENV)/installed-learn2learn
	$(RUN) -m pip install --quiet -e '.[benchmark]'
	$(RUN) scripts/benchmark.py

# on a machine with a GPU, by its own Python: its tests, and what training, evaluation and heads cost there; in gpu/
GPU_PYTHON ?= python3
gpu:
	PYTHONPATH=. $(GPU_PYTHON) -m fewshot benchmark --suite gpu --out gpu

# there too: trains recipes, without their test split, for so many minutes; calling it again goes on; gpu/runs.tar.*,
# of less than 16 MB each, hold what it made. SMALL=true, for large networks: weights of two bytes, no optimizer's state
GPU_RECIPES ?= mini_imagenet
MINUTES ?= 8
JOBS ?= 3
SMALL ?= false
gpu-train:
	PYTHONPATH=. $(GPU_PYTHON) -m fewshot reproduce $(GPU_RECIPES) --train_only true --n_jobs $(JOBS) \
	  --budget $(MINUTES) --out gpu/runs $(if $(METHODS),--methods $(METHODS)) \
	  $(if $(filter true,$(SMALL)),--small_copies gpu/small/runs); status=$$?; \
	cd gpu && rm -f runs.tar.* && tar --create --exclude 'events.out.tfevents.*' --exclude projector \
	  $(if $(filter true,$(SMALL)),--directory small) runs | split --bytes 15000000 - runs.tar. && exit $$status

# for the method maml-learn2learn and its tests, which are skipped without it
learn2learn: $(VENV)/installed-learn2learn

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "fewshot needs Python 3.11 or newer; name one with make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e .
	@echo "installed into $(VENV); for python scripts/...: source $(VENV)/bin/activate"
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet -e '.[test,pretrained,finetune,export,serve]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(RUN) -m pip install --quiet -e '.[docs]'
	touch $@

# learn2learn 0.2.0 is compiled from C written anew by Cython 3, and installed without what it asks for but does
# not import (qpth would bring back numpy 1; gym's own requirements print a notice at each import)
$(VENV)/installed-learn2learn: $(VENV)/installed
	@echo '#include <Python.h>' | $(CC) -E "-I$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("include"))')" - >/dev/null || \
	{ echo "make learn2learn compiles C: it needs a C compiler (tried $(CC); name another with CC=...) and Python.h (python3-dev)" >&2; exit 1; }
	$(RUN) -m pip install --quiet --upgrade setuptools wheel 'cython>=3' requests
	CYTHON_FORCE_REGEN=1 CC="$(CC)" $(RUN) -m pip install --quiet --no-deps --no-build-isolation \
	  -C--global-option=build_ext learn2learn==0.2.0
	$(RUN) -m pip install --quiet --no-deps gym==0.26.2
	$(RUN) -c 'from learn2learn.algorithms import MAML'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
