#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the policy engine to every case file of a folder (default: the project's copy): conformance.sh [DIR]
# With DATAPATH=1 the packets of the cases run through the BPF programs too, which needs root.
set -eu
path=$(realpath -e "${1:-$(dirname "$0")/../tests/conformance/policy}")
cd "$(dirname "$0")/.."
[ -d node_modules ] || tools/setup.sh
for bin in "$PWD"/node_modules/node-linux-*/bin; do PATH=$bin:$PATH; done
if [ "${DATAPATH:-0}" != 0 ]; then
	[ "$(id -u)" = 0 ] || { echo 'conformance: DATAPATH=1 needs root' >&2; exit 1; }
	tools/build-bpf.sh
fi
exec node tests/conformance/run.ts "$path"
