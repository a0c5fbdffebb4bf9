# SPDX-License-Identifier: Apache-2.0
# `make demo`, `make test` and `make bench` do all the set-up they need, as root.
PREFIX ?= /usr/local
# Options for the benchmark, such as --quick.
BENCH ?=

# A folder of conformance cases other than the project's own.
DIR ?=
# How many random rule sets `make properties` tries.
RUNS ?= 20000

.PHONY: all demo test setup build check unit conformance properties bench bench-policy bench-cluster mutate install lab-down clean

all: build

demo:
	@tools/run.sh lab/demo

test:
	@tools/test.sh

setup:
	@tools/setup.sh

build: setup
	@tools/build.sh

check:
	@npm run --silent check

unit:
	@tools/unit-tests.sh

conformance:
	@tools/conformance.sh $(if $(DIR),"$(DIR)")

# The property tests of the policy language for long (an hour); `make unit` has them with 500 rule sets.
properties:
	@PROPERTY_RUNS=$(RUNS) tools/unit-tests.sh $$(find policy tests -name '*.property.test.ts')

bench:
	@tools/run.sh tests/perf/bench $(BENCH)

# Takes every policy and anti-spoofing check out of the C, one at a time, and shows that a test notices (8 minutes).
mutate:
	@tools/run.sh tests/bpf/mutate

bench-policy:
	@tools/run.sh tests/perf/policy-bench $(BENCH)

# Needs etcd, which `tools/setup.sh --tests` installs.
bench-cluster:
	@tools/setup.sh --tests
	@tools/run.sh tests/perf/cluster-bench $(BENCH)

install: build
	@tools/install.sh $(PREFIX)

lab-down:
	@bin/lab down --all

clean: lab-down
	rm -rf dist bpf-src/build .cache
