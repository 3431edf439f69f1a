# test/lib/debian.sh
#
# What bare.sh and upgrade.sh share: a Debian of its own in a directory, to try
# what the machine itself does not have.  They source it after setup.sh.  Needs
# root and the network.  MIRROR names another mirror of Debian.
# shellcheck shell=bash

mirror=${MIRROR:-http://deb.debian.org/debian}
packages= # a directory for the packages that systems download, if they are to be kept

# in_system DIRECTORY COMMAND ...: runs a command in the system there.  Its mounts
# and processes are seen nowhere else, and end with it; the bash that is its first
# process buries the dead.
in_system() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
		DEBIAN_FRONTEND=noninteractive PACKAGES="$packages" bash -c '
			mount -t proc proc "$0/proc" &&
			mount -t tmpfs tmpfs "$0/dev/shm" &&
			{ [[ -z $PACKAGES ]] || mount --bind "$PACKAGES" "$0/var/cache/apt/archives"; } &&
			chroot "$0" "$@"
			exit $?' "$@"
}

# make_system DIRECTORY SUITE [OTHER SUITE ...]: makes a bare system of a release,
# from a mirror that may lag, which is no matter of those who try something there.
# It finds packages of the others, too, where its own does not have them.
make_system() {
	((EUID == 0)) || die "only root can make a system of its own"
	install_missing debootstrap
	mkdir -p "$1"
	quietly unshare --mount debootstrap --variant=minbase "$2" "$1" "$mirror"
	printf "deb $mirror %s main\n" "${@:2}" >"$1/etc/apt/sources.list"
	printf 'Acquire::Check-Valid-Until "false";\n' >"$1/etc/apt/apt.conf.d/80lagging-mirror"
	quietly in_system "$1" apt-get update
}

# copy_checkout DIRECTORY: a fresh copy of the checkout there.
copy_checkout() {
	rm -rf "$1"
	mkdir -p "$1"
	tar -C "$root" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - . | tar -C "$1" -xf -
}
