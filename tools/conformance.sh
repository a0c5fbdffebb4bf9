#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the policy engine to every case file of a folder (default: the project's copy): conformance.sh [DIR]
# With DATAPATH=1 the packets of the cases run through the BPF programs too, which needs root.
set -eu
dir=$(cd "${1:-$(dirname "$0")/../tests/conformance/policy}" && pwd)
cd "$(dirname "$0")/.."
for bin in "$PWD"/node_modules/node-linux-*/bin; do PATH=$bin:$PATH; done
[ "${DATAPATH:-0}" = 0 ] || CONFORMANCE_DIR=$dir node --test tests/bpf/conformance.test.ts
exec node tests/conformance/run.ts "$dir"
