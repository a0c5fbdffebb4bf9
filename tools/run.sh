#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a program of the tree with all the set-up it needs: run.sh lab/demo
set -eu
. "$(dirname "$0")/as-root.sh"
cd "$(dirname "$0")/.."
tools/setup.sh
tools/build-bpf.sh
. bin/launch.sh
launch "$@"
