#!/bin/sh
# Runs the tests that need root, natively: tests/run-root.sh [TEST-BINARY [FILTER]]...
# A run in which no test ran is a failure, not a success.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "run-root.sh: needs root" >&2; exit 77; }
binaries=${1:-"bpf_parse bpf_policy bpf_flow bpf_recent bpf_wire bpf_reply bpf_nat bpf_nat_ports bpf_publish bpf_publish_inside bpf_rate bpf_denied bpf_dns_query bpf_dns_answer bpf_dns_learned bpf_toobig bpf_load bpf_scale bpf_oracle kernel_native kernel_lan kernel_resolv"}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for binary in $binaries; do
	if ! cargo test --locked --test "$binary" -- --ignored "root::${2:-}" >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
	ran=$(sed -n 's/^running \([0-9]*\) tests\{0,1\}$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	if [ "$ran" = 0 ]; then
		cat "$log" >&2
		echo "run-root.sh: $binary: no test ran" >&2
		exit 1
	fi
	grep "^test result" "$log" | sed "s|^|$binary: |"
done
