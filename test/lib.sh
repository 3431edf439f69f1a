# test/lib.sh
#
# What demo.sh, all.sh, their neighbours and those of bench/ share: they source it,
# it is not run by itself.
#
# prepare	makes the private directory $work, installs what is missing and the
#			packages that are named, and chooses a PostgreSQL ($PG_CONFIG, its
#			programs are in $bindir)
# copy_source	copies the checkout to $source
# build		does so, compiles it with "${make[@]}" and installs it
# start_server	starts a server below $work, with the settings that are given, and
#			points libpq's variables at it
#
# with_sanitizer	runs a test command, whose builds then have the sanitizer of
#			undefined behaviour and our own assertions
#
# When the script ends, however it ends, $work goes away with every server
# below it.  The checkout is only read.  No cluster of the system is made,
# started or stopped.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=
oldest_major=15
initdb_options=()

# Neither the caller's server, Terraform set-up nor language has a say here, but
# what PGXS reads for a build has.
PG_CONFIG=${PG_CONFIG:-}
for name in "${!PG@}" "${!TF_@}" MAKEFLAGS; do
	[[ $name == PG_CONFIG || $name == PG_CFLAGS || $name == PG_LDFLAGS ]] || unset "$name"
done
export LC_ALL=C CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
umask 022

heading() {
	printf '\n== %s\n\n' "$*"
}

die() {
	printf '\n%s: %s\n' "$0" "$*" >&2
	exit 1
}

# Prints the absolute path of a program, which is named as in a command.
path_of() {
	local path
	path=$(type -P "$1") || die "there is no program $1"
	realpath --no-symlinks "$path"
}

# What tests run as Terraform.
terraform=terraform
if [[ -n ${TERRAFORM:-} ]]; then
	terraform=$(path_of "$TERRAFORM") || exit
	export TERRAFORM=$terraform
fi

# Runs a command and shows what it prints only if it fails, which ends the
# script.
quietly() {
	"$@" >"$work/log" 2>&1 </dev/null && return
	cat "$work/log" >&2
	die "failed: $*"
}

as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

# Runs a command as an unprivileged user, since no server runs as root: the
# caller, or postgres if that is root.
as_user() {
	local switch=()
	((EUID != 0)) || switch=(setpriv --reuid=postgres --regid=postgres --init-groups)
	"${switch[@]}" env HOME="$work" TMPDIR="$work" "$@"
}

# Starts a command in the background, with its children in a process group
# that ends with this script.
in_background() {
	set -m
	"$@" &
	set +m
}

# Stops all servers whose data is below $work.
stop_servers() {
	local data
	find "$work" -name postmaster.pid -printf '%h\n' | while read -r data; do
		kill -CONT "$(head -n 1 "$data/postmaster.pid")" # a test may have stopped it
		as_user "$bindir/pg_ctl" -D "$data" -m immediate stop
	done >/dev/null 2>&1 || true
}

# Unmounts what is mounted below $work.
unmount_disks() {
	local disk
	while read -r _ disk _; do
		[[ $disk != "$work"/* ]] || umount "$disk"
	done </proc/mounts || true
}

clean_up() {
	local job
	trap '' INT TERM HUP
	restore_system_files || true
	for job in $(jobs -p); do
		{ kill -KILL "-$job" && wait "$job"; } 2>/dev/null || true
	done
	[[ -z ${bindir:-} ]] || stop_servers
	unmount_disks
	rm -rf "$work"
}

make_work_directory() {
	# not in $TMPDIR: the path of a socket may have 107 bytes
	work=$(mktemp -d "${work_parent:-/tmp}/tfstate.XXXXXX")
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	cd "$work" || exit
}

#
# Installing what is missing
#

createcluster_conf=/etc/postgresql-common/createcluster.conf
policy_rc_d=/usr/sbin/policy-rc.d

# Keeps packages from starting a service, until restore_system_files.
hold_services() {
	if [[ ! -e $policy_rc_d ]]; then
		touch "$work/policy-rc.d"
		as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy_rc_d; chmod 755 $policy_rc_d"
	fi
}

# Keeps the PostgreSQL packages from making a cluster, until
# restore_system_files.
hold_clusters() {
	as_root cp -p "$createcluster_conf" "$work/createcluster.conf"
	as_root sh -c "echo 'create_main_cluster = false' >>$createcluster_conf"
}

restore_system_files() {
	if [[ -e $work/policy-rc.d ]]; then
		as_root rm -f "$policy_rc_d" "$work/policy-rc.d"
	fi
	if [[ -e $work/createcluster.conf ]]; then
		as_root mv -f "$work/createcluster.conf" "$createcluster_conf"
	fi
}

# What is already there is not upgraded, so no running server is restarted.
apt_install() {
	quietly as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get install \
		--yes --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=600 "$@"
}

# Reads majors, one a line, and prints the highest that we support.
highest_major() {
	sort -n | awk -v oldest=$oldest_major '$1 >= oldest { m = $1 } END { print m }'
}

# Prints the majors whose server is installed, one a line.
server_majors() {
	local postgres
	for postgres in /usr/lib/postgresql/*/bin/postgres; do
		[[ ! -x $postgres ]] || echo "$postgres" | cut -d/ -f5
	done
}

# Prints those for which an extension can be built, too.
buildable_majors() {
	local major
	for major in $(server_majors); do
		[[ ! -e /usr/include/postgresql/$major/server/postgres.h ]] || echo "$major"
	done
}

# Prints the majors that apt could install, one a line.
available_majors() {
	apt-cache search --names-only '^postgresql-server-dev-[0-9]+$' |
		sed 's/^postgresql-server-dev-\([0-9]*\) .*/\1/'
}

install_postgresql() {
	local major
	major=$(server_majors | highest_major)
	major=${major:-$(available_majors | highest_major)}
	[[ -n $major ]] || die "no PostgreSQL $oldest_major or later among the packages of this system"
	apt_install postgresql-common
	hold_clusters
	apt_install "postgresql-$major" "postgresql-server-dev-$major"
}

# Installs what we need, and the packages that are named: each is there if the
# system has a program of that name, or says so.
install_missing() {
	local packages=() package
	for package in "$@"; do
		[[ -n $(PATH=$PATH:/usr/sbin command -v "$package") ]] || dpkg --status "$package" >/dev/null 2>&1 ||
			packages+=("$package")
	done
	command -v gcc >/dev/null || packages+=(gcc libc6-dev)
	command -v make >/dev/null || packages+=(make)
	[[ -e /usr/include/zstd.h ]] || packages+=(libzstd-dev)
	command -v prove >/dev/null || packages+=(perl)
	perl -MIPC::Run -e 1 2>/dev/null || packages+=(libipc-run-perl)
	if [[ -z $PG_CONFIG && -z $(buildable_majors | highest_major) ]]; then
		packages+=(postgresql)
	fi
	((${#packages[@]} > 0)) || return 0

	command -v apt-get >/dev/null || die "please install what these packages of Debian hold: ${packages[*]}"
	heading "Installing ${packages[*]} (this takes a few minutes)"
	as_root apt-get update >"$work/log" 2>&1 </dev/null || cat "$work/log" >&2
	hold_services
	if [[ ${packages[-1]} == postgresql ]]; then
		install_postgresql
		unset 'packages[-1]'
	fi
	((${#packages[@]} == 0)) || apt_install "${packages[@]}"
	restore_system_files
}

prepare() {
	make_work_directory
	install_missing "$@"
	PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$(buildable_majors | highest_major)/bin/pg_config}
	bindir=$("$PG_CONFIG" --bindir) || die "cannot run $PG_CONFIG"
	if ((EUID == 0)); then
		chown postgres: "$work"
	fi
}

#
# Building and running
#

# Copies the checkout to $source, where "${make[@]}" works.
copy_source() {
	source=$work/tfstate
	make=(make -C "$source" PG_CONFIG="$PG_CONFIG")
	as_user mkdir "$source"
	tar -C "$root" --mode=u+w --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
		--exclude=tmp_check -cf - . | as_user tar -C "$source" -xf -
}

# Compiles and installs; arguments go to make.
build() {
	copy_source
	quietly as_user "${make[@]}" "-j$(nproc)" "$@"
	quietly as_root "${make[@]}" install "$@"
}

with_sanitizer() {
	env PG_LDFLAGS='-Wl,--no-as-needed -lubsan' \
		PG_CFLAGS='-fsanitize=undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment -DUSE_ASSERT_CHECKING' \
		"$@"
}

# Prints a TCP port that nobody listens on.
free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# Over the socket, which is in $work, everything is allowed; over TCP a role
# needs a password.  Arguments are further lines of postgresql.conf; initdb gets
# what is in initdb_options.
start_server() {
	export PGHOST=$work PGUSER=postgres PGDATABASE=postgres PGPORT
	PGPORT=$(free_port)
	quietly as_user "$bindir/initdb" -D "$work/data" -U "$PGUSER" -E UTF8 --locale=C --no-sync \
		--auth-local=trust --auth-host=scram-sha-256 "${initdb_options[@]}"
	as_user tee -a "$work/data/postgresql.conf" >/dev/null <<-END
		listen_addresses = '127.0.0.1'
		port = $PGPORT
		unix_socket_directories = '$work'
		max_prepared_transactions = 10
		fsync = off
		$(printf '%s\n' "$@")
	END
	as_user "$bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w start >/dev/null || {
		cat "$work/server.log" >&2
		die "the server does not start"
	}
}
