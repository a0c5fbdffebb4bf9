#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what tools/build.sh built below a prefix: install.sh /usr/local
set -eu
. "$(dirname "$0")/as-root.sh"
cd "$(dirname "$0")/.."
prefix=$1
target=$prefix/lib/cilium-docker

rm -rf "$target.new"
mkdir -p "$target.new/bpf-src" "$prefix/bin"
cp -r dist/. bin examples package.json package-lock.json .npmrc "$target.new"
cp -r bpf-src/build "$target.new/bpf-src"
npm --prefix "$target.new" ci --omit=dev --silent
rm -rf "$target"
mv "$target.new" "$target"
for command in cilium cilium-agent cilium-health lab; do ln -sf "$target/bin/$command" "$prefix/bin/$command"; done
