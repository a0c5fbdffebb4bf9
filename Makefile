# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` do all the set-up they need; the others expect it to be done (`make setup`).
PREFIX ?= /usr/local
BENCH ?=

.PHONY: all demo test setup build check unit bench install lab-down clean

all: build

demo:
	@tools/demo.sh

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

bench: setup
	@tools/bench.sh $(BENCH)

install: build
	@tools/install.sh $(PREFIX)

lab-down:
	@bin/lab down --all

clean: lab-down
	rm -rf dist bpf-src/build .cache
