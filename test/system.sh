# test/system.sh
#
# What majors.sh and upgrade.sh share: a Debian of its own in a directory, to try
# what the machine itself does not have.  They source it after lib.sh.  Needs
# root and the network.  MIRROR names another mirror of Debian.
# shellcheck shell=bash

mirror=${MIRROR:-http://deb.debian.org/debian}

# in_system DIRECTORY COMMAND ...: runs a command in the system there.  Its mounts
# and processes are seen nowhere else, and end with it; the bash that is its first
# process buries the dead.
in_system() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
		DEBIAN_FRONTEND=noninteractive bash -c '
			mount -t proc proc "$0/proc" &&
			mount -t tmpfs tmpfs "$0/dev/shm" &&
			chroot "$0" "$@"
			exit $?' "$@"
}

install_debootstrap() {
	command -v debootstrap >/dev/null && return
	quietly apt-get update
	apt_install debootstrap
}

# make_system DIRECTORY SUITE [OTHER SUITE ...]: makes a bare system of a release,
# from a mirror that may lag.
# It finds packages of the others, too, where its own does not have them.
make_system() {
	((EUID == 0)) || die "only root can make a system of its own"
	install_debootstrap
	mkdir -p "$1"
	quietly unshare --mount debootstrap --variant=minbase "$2" "$1" "$mirror"
	printf "deb [check-valid-until=no] $mirror %s main\n" "${@:2}" >"$1/etc/apt/sources.list"
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
	chmod 755 "$1/usr/sbin/policy-rc.d"
	quietly in_system "$1" apt-get update
}

# copy_checkout DIRECTORY: a fresh copy of the checkout there.
copy_checkout() {
	rm -rf "$1"
	mkdir -p "$1"
	tar -C "$root" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - . | tar -C "$1" -xf -
}
