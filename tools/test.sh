#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that has to hold: types, lint and house rules, unit tests, packets through the BPF programs, and real
# Docker Engines in the lab. With all the set-up it needs. The last line counts.
set -eu
. "$(dirname "$0")/as-root.sh"
cd "$(dirname "$0")/.."
tools/setup.sh --tests
tools/build-bpf.sh
for bin in "$PWD"/node_modules/node-linux-*/bin; do PATH=$bin:$PATH; done

results=.cache/test-results
rm -rf "$results"
mkdir -p "$results"

# run NAME COMMAND...: one part; its failure does not keep the others from running.
run() {
	name=$1
	shift
	printf '\n== %s\n' "$name"
	status=0
	{ "$@" 2>&1 || echo $? >"$results/$name.status"; } | tee "$results/$name.log"
	[ ! -e "$results/$name.status" ] || status=1
	# A part without tests of its own, or one that broke before it could count them, is one test.
	counted=$(sed -n "s/^\(ℹ\|#\) \(pass\|fail\|cancelled\) \([0-9][0-9]*\)$/\2 \3/p" "$results/$name.log")
	case "$status $counted" in
	'0 ') counted='pass 1' ;;
	'1 ' | '1 '*'fail 0'*'cancelled 0'*) counted="$counted
fail 1" ;;
	esac
	echo "$counted" >>"$results/counts"
}

run check npm run --silent check
run unit tools/unit-tests.sh
run packets node --import "$PWD/tests/support/fixed-seed.ts" --test 'tests/bpf/**/*.test.ts'
# One after the other: each starts nodes of its own, and a machine has few processors. Those of clusters, in which a
# fault may have to last, two at a time.
run integration node --test --test-concurrency=1 $(find tests/integration -name '*.test.ts' ! -name 'cluster-*' | sort)
run clusters node --test --test-concurrency=2 'tests/integration/cluster-*.test.ts'
# The drivers on other engines than the system's, and Compose 2; fetched once.
for engine in 26 28; do
	run "engine-$engine" env LAB_ENGINE=$engine node --test --test-concurrency=1 tests/integration/libnetwork.test.ts tests/integration/compose.test.ts
done

awk '{ count[$1 == "pass" ? "pass" : "fail"] += $2 } END { printf "\n%d passed, %d failed\n", count["pass"], count["fail"]; exit count["fail"] > 0 }' "$results/counts"
