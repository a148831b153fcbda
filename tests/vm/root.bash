# Sourced by the scripts beside it: where the cache is, and how to become
# root without losing that place. Does nothing else.

# become_root PROGRAM ARGS...: returns only as root.
become_root() {
	((EUID != 0)) || return 0
	command -v sudo >/dev/null || {
		echo "$1: needs root, and sudo is not installed" >&2
		exit 1
	}
	local name keep=
	OCI_NETKIT_CACHE=$(cache_dir)
	export OCI_NETKIT_CACHE
	for name in $(compgen -e); do
		case $name in
		OCI_NETKIT_* | RUST_LOG | RUST_BACKTRACE | YES | CI) keep+=,$name ;;
		esac
	done
	exec sudo --preserve-env="${keep#,}" -- "$@"
}

cache_dir() {
	echo "${OCI_NETKIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oci-netkit}"
}
