#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tests that need neither root nor Docker: those beside the sources, house rules, and what is about the tests' own tools.
# With arguments: only these files.
set -eu
cd "$(dirname "$0")/.."
for bin in "$PWD"/node_modules/node-linux-*/bin; do PATH=$bin:$PATH; done
[ $# -gt 0 ] || set -- $(find . \( -name node_modules -o -name dist -o -name .cache -o -path ./tests/bpf -o -path ./tests/integration \) -prune \
	-o -name '*.test.ts' -print | sort)
exec node --import "$PWD/tests/support/fixed-seed.ts" --test --test-concurrency="$(nproc)" "$@"
