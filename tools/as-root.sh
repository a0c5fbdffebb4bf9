# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that need root: runs the script again with sudo where there is one.
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "$0: needs root, and there is no sudo: run it as root" >&2; exit 1; }
	exec sudo env "PATH=$PATH" "$0" "$@"
fi
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
