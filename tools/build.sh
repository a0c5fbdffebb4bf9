#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds what is shipped: the BPF objects, and JavaScript in dist/. A clone runs its TypeScript as it is and needs only
# the objects (tools/build-bpf.sh).
set -eu
cd "$(dirname "$0")/.."
tools/build-bpf.sh
PATH=$PWD/node_modules/.bin:$PATH
rm -rf dist
tsc -p tsconfig.build.json
