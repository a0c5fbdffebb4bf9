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
	[ -d "$home/node_modules" ] || refuse "needs its npm packages: run '$(builder)' in $home"
	[ -n "$node" ] || refuse "needs Node.js 22.18 or newer: run '$(builder)' in $home, or install it"
	# Compiled code is kept between runs: half the start-up time of a command.
	[ -w "$home" ] && export NODE_COMPILE_CACHE="$home/.cache/node"
	# DEP0123: gRPC greets a server that is given by its IP address with that as a TLS name; servers do not mind.
	# shellcheck disable=SC2086 # the flags of a launcher are words
	exec "$node" ${node_flags-} --disable-warning=ExperimentalWarning --disable-warning=DEP0123 "$program" "$@"
}

refuse() {
	echo "${0##*/}: $1" >&2
	exit 1
}

# What provides all that is missing: a clone has a Makefile, what is installed has not.
builder() {
	if [ -e "$home/Makefile" ]; then echo 'make build'; else echo 'npm ci --omit=dev'; fi
}

# The machine's own node, if it is new enough to run what we ship.
system_node() {
	node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
		if (major > 22 || (major === 22 && minor >= 18)) console.log(process.execPath)' 2>/dev/null
}
