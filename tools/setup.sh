#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building, running and testing need: Debian packages and npm packages. Starts no service.
# Safe to repeat; a second run takes a moment. With --tests: what only the tests need, too.
set -eu
. "$(dirname "$0")/as-root.sh"
cd "$(dirname "$0")/.."

# To build and to run.
packages='clang libc6-dev libbpf-dev libbpf1 linux-libc-dev busybox-static iproute2 iptables nftables util-linux procps bpftool'
[ "${1:-}" != --tests ] || packages="$packages docker-compose etcd-server etcd-client"
# Docker's own packages in place of Debian's do as well, and would be removed by these.
command -v dockerd >/dev/null || packages="$packages docker.io"

log=.cache/setup.log
mkdir -p .cache

fail() {
	echo "setup: $1" >&2
	exit 1
}

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Package scripts ask this policy before they start a service.
policy=/usr/sbin/policy-rc.d
policy_mark='# Made by the set-up of cilium-docker while it installs packages.'
forbid_services() {
	[ ! -e $policy ] || return 0
	printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >$policy.new
	chmod 755 $policy.new
	mv $policy.new $policy
}
allow_services() {
	if grep -qsF "$policy_mark" $policy; then rm -f $policy; fi
}

install_packages() {
	missing=
	for package in $packages; do is_installed "$package" || missing="$missing $package"; done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || fail "needs a Debian 12 machine, or these packages:$missing"
	echo "Installing Debian packages:$missing"
	trap allow_services EXIT
	trap 'exit 1' INT TERM HUP
	forbid_services
	export DEBIAN_FRONTEND=noninteractive
	# Other people's sources may be out of order: what counts is whether the packages can be had.
	apt-get update >"$log" 2>&1 || true
	# shellcheck disable=SC2086
	apt-get install -y --no-install-recommends $missing >>"$log" 2>&1 ||
		fail "Debian packages could not be installed; is the network there? $(grep -E '^[EW]:' "$log" | tail -n 1) (all of it: $log)"
	# Nor do they start at the next boot: they were not there before.
	units=
	case $missing in *docker.io*) units='docker.service docker.socket containerd.service' ;; esac
	case $missing in *etcd-server*) units="$units etcd.service" ;; esac
	if [ -n "$units" ] && command -v systemctl >/dev/null; then
		# shellcheck disable=SC2086
		systemctl disable $units >>"$log" 2>&1 || true
	fi
	allow_services
}

# Whether somebody's own `npm ci` has installed what is locked; npm keeps account of it in node_modules. Packages for
# other machines are never there; the Node.js for this one has to be.
is_npm_done() {
	ls node_modules/node-linux-*/bin/node >/dev/null 2>&1 || return 1
	node -e 'const { readFileSync } = require("fs");
		const packages = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
		const [wanted, there] = [packages("package-lock.json"), packages("node_modules/.package-lock.json")];
		const isThere = (name) => there[name] !== undefined && there[name].integrity === wanted[name].integrity;
		const missing = Object.keys(wanted).filter((name) => name !== "" && !wanted[name].optional && !isThere(name));
		process.exit(missing.length === 0 ? 0 : 1)' 2>/dev/null
}

install_npm_packages() {
	stamp=node_modules/.installed
	wanted=$(cksum <package-lock.json)
	[ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
	if is_npm_done; then
		echo "$wanted" >$stamp
		return 0
	fi
	command -v npm >/dev/null || fail 'needs Node.js and npm'
	echo 'Installing npm packages'
	npm ci --no-update-notifier --prefer-offline --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=10000 >"$log" 2>&1 ||
		fail "npm packages could not be installed; is the network there? $(grep -E 'npm error' "$log" | head -n 1) (all of it: $log)"
	echo "$wanted" >$stamp
}

allow_services # what a killed run left
install_packages
install_npm_packages
