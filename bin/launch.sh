# SPDX-License-Identifier: Apache-2.0
# What the launchers share: become node, running a program of the tree in which bin/ is.
home=$(dirname "$(dirname "$(readlink -f "$0")")")

# launch PROGRAM ARGS...: PROGRAM names a file without its ending; a clone has .ts, what is installed has .js.
launch() {
	program=$home/$1.ts
	[ -e "$program" ] || program=$home/$1.js
	shift
	for node in "$home"/node_modules/node-linux-*/bin/node; do
		[ -x "$node" ] || node=$(system_node)
		break
	done
	if [ -z "$node" ]; then
		echo "${0##*/}: needs Node.js 22.18 or newer: run 'npm ci' in $home, or install it" >&2
		exit 1
	fi
	# Compiled code is kept between runs: half the start-up time of a command.
	[ -w "$home" ] && export NODE_COMPILE_CACHE="$home/.cache/node"
	# shellcheck disable=SC2086 # the flags of a launcher are words
	exec "$node" ${node_flags-} --disable-warning=ExperimentalWarning "$program" "$@"
}

# The machine's own node, if it is new enough to run what we ship.
system_node() {
	node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
		if (major > 22 || (major === 22 && minor >= 18)) console.log(process.execPath)' 2>/dev/null
}
