# test/lib/setup.sh
#
# The set-up shared by the scripts in test/ and bench/, which source it: installs what is
# missing, builds tfstate, and starts servers.
#
# prepare		makes the private directory $work, installs the missing packages for a build
#				and for what is named, and copies a PostgreSQL there ($PG_CONFIG; its
#				programs are in $bindir)
# copy_source	copies the checkout to $source
# rebuild		compiles $source with "${make[@]}" and installs it
# build			copies, compiles and installs
# find_released	sets RELEASED_SOURCE to the source of the last release
# start_server	starts a server below $work, with the given settings, and points libpq's
#				variables at it
# with_sanitizer	runs a test command whose builds have the undefined behaviour sanitizer
#				and our own assertions
#
# When the script ends, however it ends, $work is removed with every server below it.  The
# checkout is only read.  Nothing is installed into the system's PostgreSQL, and no cluster of
# the system is created, started or stopped.  What stays is $cache, and the packages that are
# listed there.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=
oldest_major=15
initdb_options=()
user=nobody # as whom servers run if the caller is root

# The Debian packages that a build needs, and further ones for each kind of test.  No other
# place lists them.  postgresql and postgresql-pgaudit stand for those of the major in use.
declare -A needs=(
	[build]='gcc libc6-dev make libpq-dev libzstd-dev postgresql'
	[regress]=''
	[isolation]=''
	[tap]='perl libmicrohttpd-dev curl openssl libipc-run-perl libio-pty-perl libfaketime jq pgbouncer postgresql-pgaudit
		prometheus promtool prometheus-postgres-exporter chromium-headless-shell chromium-common'
	[robustness]='python3 python3-psycopg2 python3-etcd patroni etcd-server pgbouncer libfaketime patch'
	[model]='gcc libc6-dev spin'
	[demo]=''
)

# The caller's server, Terraform set-up and language must not affect the tests, except for
# what PGXS reads for a build.
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

# Prints the absolute path of a program that is named as in a command.
path_of() {
	local path
	path=$(type -P "$1") || die "there is no program $1"
	realpath --no-symlinks "$path"
}

# The Terraform or OpenTofu that tests run
terraform=terraform
if [[ -n ${TERRAFORM:-} ]]; then
	terraform=$(path_of "$TERRAFORM") || exit
	export TERRAFORM=$terraform
fi

# Runs a command.  If it fails, shows its output and ends the script.
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

# Runs a command as an unprivileged user, because no server runs as root: as the caller, or
# as $user if the caller is root.
as_user() {
	local switch=()
	((EUID != 0)) || switch=(setpriv "--reuid=$user" "--regid=$(id -g $user)" --clear-groups)
	"${switch[@]}" env HOME="$work" TMPDIR="$work" "$@"
}

# Starts a command in the background, in a process group of its own that ends with this
# script.
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
# A package with a service, which the system would start at each boot from then on, is only
# unpacked, below $tree, and its dependencies are installed.  So is PostgreSQL, whose servers
# are needed by these scripts only, without its compiler for queries (LLVM), and Chromium, whose
# dependencies for a desktop have a service.
#

unpacked='etcd-server patroni pgbouncer redis-server redis-tools libpq-dev postgresql-* prometheus prometheus-* promtool'
unpacked+=' chromium-*'
# their dependencies that the unpacked programs do not need
not_needed='adduser clang-* daemon debconf fonts-glyphicons-* libjs-* libllvm* libssl-dev llvm-* locales lsb-base python3-consul'
not_needed+=' ssl-cert sysvinit-utils x11-utils xdg-utils'

# Not in the home of root, which $user may be unable to read.
cache=/var/cache/tfstate
((EUID == 0)) || cache=${XDG_CACHE_HOME:-~/.cache}/tfstate
# shellcheck source=/dev/null
tree=$cache/$(. /etc/os-release && echo "$ID-${VERSION_ID:-${VERSION_CODENAME:-}}" || true)
# what is in usr/bin of Chromium starts it at its place in the system
PATH=$PATH:/usr/sbin:$tree/usr/lib/chromium:$tree/usr/bin:$tree/usr/sbin
export PYTHONPATH=$tree/usr/lib/python3/dist-packages

# Returns true if one of the patterns in $2 matches $1.
is_among() {
	local pattern patterns
	read -ra patterns <<<"$2"
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}

find_faketime() {
	find /usr/lib -name libfaketime.so.1 | head -n 1
}

# Prints the major of the PostgreSQL in use, if it is Debian's.
debian_major() {
	[[ $PG_CONFIG =~ /usr/lib/postgresql/([0-9]+)/bin/pg_config$ ]] && echo "${BASH_REMATCH[1]}"
}

# Returns true if the PostgreSQL in use has pgaudit, or Debian has none for it.
has_pgaudit() {
	local major
	[[ ! -e $("$PG_CONFIG" --pkglibdir)/pgaudit.so ]] || return 0
	major=$(debian_major) || return 0
	[[ -e $tree/postgresql-$major-pgaudit.unpacked ]]
}

# Returns true if the contents of a package are there, wherever they are from.
is_there() {
	local package=$1
	[[ ! -e $tree/$package.unpacked ]] || return 0
	case $package in
		etcd-server) command -v etcd ;;
		libc6-dev) [[ -e /usr/include/stdio.h ]] ;;
		libfaketime) [[ -n $(find_faketime) ]] ;;
		libpq-dev) find_postgresql && [[ -e $("$PG_CONFIG" --includedir)/libpq-fe.h ]] ;;
		libio-pty-perl) perl -MIO::Pty -e 1 ;;
		libipc-run-perl) perl -MIPC::Run -e 1 ;;
		libzstd-dev) [[ -e /usr/include/zstd.h ]] ;;
		chromium-*) command -v chromium-headless-shell || command -v chromium ;;
		perl) command -v prove ;;
		postgresql) find_postgresql ;;
		postgresql-pgaudit) find_postgresql && has_pgaudit ;;
		python3-*) as_user python3 -c "import ${package#python3-}" ;;
		*)
			# most programs have the name of their package
			command -v "$package" ||
				[[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package") == installed ]]
			;;
	esac >/dev/null 2>&1
}

# Reads majors, one a line, and prints the highest supported one.
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

# Prints those among them for which an extension can be built.
buildable_majors() {
	local major
	for major in $(server_majors); do
		[[ ! -e /usr/include/postgresql/$major/server/postgres.h ]] || echo "$major"
	done
}

# Prints the unpacked majors, one a line.
unpacked_majors() {
	local stamp
	for stamp in "$tree"/postgresql-server-dev-*.unpacked; do
		[[ ! -e $stamp ]] || basename "${stamp##*-}" .unpacked
	done
}

# Prints the majors that apt could install, one a line.
available_majors() {
	apt-cache search --names-only '^postgresql-server-dev-[0-9]+$' |
		sed 's/^postgresql-server-dev-\([0-9]*\) .*/\1/'
}

# Sets PG_CONFIG, unless the caller has, to that of a PostgreSQL that is installed with its
# headers, or else of one that is unpacked.  Fails if there is none.
find_postgresql() {
	local major
	[[ -z $PG_CONFIG ]] || return 0
	major=$(buildable_majors | highest_major)
	if [[ -n $major ]]; then
		PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
	else
		major=$(unpacked_majors | highest_major)
		[[ -n $major ]] || return 1
		PG_CONFIG=$tree/usr/lib/postgresql/$major/bin/pg_config
	fi
}

# Prints the dependencies of a package, except those that are not needed or are unpacked
# themselves, each followed by a comma.
dependencies() {
	local dependency dependencies
	IFS=, read -ra dependencies < <(apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: //p')
	for dependency in "${dependencies[@]}"; do
		read -r dependency <<<"$dependency"
		is_among "${dependency%%[ :]*}" "$not_needed $unpacked" || printf '%s,' "$dependency"
	done
}

# Runs apt-get, with its progress reports on standard output and everything else on standard
# error.  Installed packages are not upgraded, so no running server is restarted.
apt_get() {
	# sudo passes only the first three files, and packages must not find one of these closed
	# shellcheck disable=SC2016
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C TMPDIR="$work" \
		sh -c 'exec "$@" 3>&1 1>&2' sh apt-get -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 \
		--no-install-recommends --no-upgrade "$@" </dev/null
}

# Shows the progress that apt reports: on a terminal in one line, otherwise a line every few
# seconds.
show_progress() {
	local line shown=-5
	while read -r line; do
		[[ $line =~ ^(dl|pm)status:.*:([0-9]+)[0-9.]*:(.*)$ ]] || continue
		printf -v line '%3d %%  %s' "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
		if [[ -t 1 ]]; then
			printf '\r%.*s\e[K' $((${COLUMNS:-80} - 1)) "$line"
		elif ((SECONDS >= shown + 5)); then
			shown=$SECONDS
			printf '%s\n' "$line"
		fi
	done
	[[ ! -t 1 ]] || printf '\r\e[K'
}

# Installs packages that satisfy the dependencies in $1, and adds their names to the list in
# $cache.
apt_satisfy() {
	apt_get --assume-no satisfy "$1" 2>"$work/log" >/dev/null || true
	! grep -q '^0 upgraded, 0 newly installed' "$work/log" || return 0
	mkdir -p "$cache"
	sed -n '/^The following NEW packages/,/^[^ ]*[0-9]* upgraded/s/^  //p' "$work/log" >"$work/installed"
	printf '%d packages of this system:\n' "$(wc -w <"$work/installed")"
	fold -s -w 78 <"$work/installed"
	grep -E '^(Need to get|After this operation)' "$work/log" || true
	printf '\n'
	cat "$work/installed" >>"$cache/installed"
	apt_get --yes satisfy "$1" 2>"$work/log" | show_progress || {
		cat "$work/log" >&2
		die 'these packages could not be installed'
	}
}

# Unpacks packages below $tree.
unpack() {
	local package
	printf 'Unpacked in %s: %s\n' "$tree" "$*"
	mkdir -p "$tree" "$work/packages"
	cd "$work/packages"
	quietly apt-get download "$@"
	cd "$work"
	for package in "$@"; do
		quietly dpkg-deb --extract "$work/packages/${package}_"*.deb "$tree"
	done
	rm -rf "$work/packages" "$tree"/usr/lib/postgresql/*/lib/{bitcode,llvmjit*}
	for package in "$@"; do
		touch "$tree/$package.unpacked"
	done
}

# Prints the major to be used, even if it is not unpacked yet: the one that is installed
# without its headers, or else the highest one that apt has.
major_to_use() {
	local major
	! find_postgresql || { debian_major && return; }
	major=$(server_majors | highest_major)
	major=${major:-$(available_majors | highest_major)}
	[[ -n $major ]] || die "no PostgreSQL $oldest_major or later among the packages of this system"
	echo "$major"
}

# Installs or unpacks packages.
install_packages() {
	local package major wanted='' archives=()
	for package in "$@"; do
		if [[ $package == postgresql-pgaudit ]]; then
			major=$(major_to_use) || exit
			# Debian does not have it for every major
			! apt-cache show "postgresql-$major-pgaudit" >/dev/null 2>&1 || archives+=("postgresql-$major-pgaudit")
		elif [[ $package == promtool ]]; then
			# before Debian 13 it is in prometheus
			! apt-cache show "$package" >/dev/null 2>&1 || archives+=("$package")
		elif [[ $package == postgresql ]]; then
			major=$(major_to_use) || exit
			archives+=("postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major")
		elif is_among "$package" "$unpacked"; then
			archives+=("$package")
		else
			wanted+=$package,
		fi
	done
	for package in "${archives[@]}"; do
		wanted+=$(dependencies "$package")
	done
	[[ -z $wanted ]] || apt_satisfy "${wanted%,}"
	((${#archives[@]} == 0)) || unpack "${archives[@]}"
	printf '\nAll this stays for the next time.  To remove it:\n'
	[[ ! -e $cache/installed ]] || printf '    %sapt-get purge $(cat %s)\n' "$( ((EUID == 0)) || echo 'sudo ')" "$cache/installed"
	printf '    rm -r %s\n' "$cache"
}

# Installs the missing ones of the named packages, or of the keys of needs.
install_missing() {
	local name package missing=()
	for name in "$@"; do
		for package in ${needs[$name]-$name}; do
			is_there "$package" || is_among "$package" "${missing[*]}" || missing+=("$package")
		done
	done
	((${#missing[@]} > 0)) || return 0

	heading 'Installing what is missing'
	command -v apt-get >/dev/null || die "please install what these packages of Debian hold: ${missing[*]}"
	((EUID == 0)) || command -v sudo >/dev/null || die "please install as root, or with sudo: ${missing[*]}"
	apt_get update >/dev/null 2>"$work/log" || cat "$work/log" >&2
	install_packages "${missing[@]}"
}

# Lets programs be built with libpq, the static libraries and the copy, from the includedir and libdir of what was
# copied.
link_libpq() {
	local includedir libdir library=$2/libpq.so.5
	includedir=$("$PG_CONFIG" --includedir)
	libdir=$("$PG_CONFIG" --libdir)
	as_user mkdir -p "$includedir" "$libdir"
	[[ -e $includedir/libpq-fe.h ]] || as_user ln -s "$1"/*.h "$includedir"
	# unpacked headers are used with the system's library
	[[ -e $library ]] || library=$(/sbin/ldconfig -p | sed -n 's/.*libpq[.]so[.]5 .*=> //p' | head -n 1)
	as_user ln -sf "$library" "$libdir/libpq.so"
	as_user ln -sf "$library" "$libdir/libpq.so.5"
	# Debian has them in pkglibdir, which comes first
	for library in "$2"/libpg{feutils,common,port}.a; do
		[[ ! -e $library ]] || as_user ln -sf "$library" "$libdir"
	done
}

# Copies PostgreSQL below $work.  It finds its files relative to its programs, so tfstate can
# be installed into the copy.
copy_postgresql() {
	local option directory directories=() major library includedir libdir
	for option in bindir sharedir pkglibdir pkgincludedir includedir-server; do
		directory=$("$PG_CONFIG" "--$option") || die "cannot run $PG_CONFIG"
		directories+=("$directory")
	done
	includedir=$("$PG_CONFIG" --includedir)
	libdir=$("$PG_CONFIG" --libdir)
	bindir=$work/postgresql${directories[0]}
	as_user mkdir -p "$work/postgresql"
	tar -C / --exclude=bitcode -cf - "${directories[@]#/}" | as_user tar -C "$work/postgresql" -xf -
	major=$(debian_major) && library=$tree/usr/lib/postgresql/$major/lib/pgaudit.so || library=
	if [[ -e $library ]]; then
		as_user cp "$library" "$work/postgresql${directories[2]}"
	fi
	PG_CONFIG=$bindir/pg_config
	link_libpq "$includedir" "$libdir"
	[[ $("$PG_CONFIG" --bindir) == "$bindir" ]] || die "the PostgreSQL in ${directories[0]} cannot be moved"
}

prepare() {
	make_work_directory
	install_missing build "$@"
	find_postgresql || die 'there is no PostgreSQL here'
	if ((EUID == 0)); then
		chown "$user:" "$work"
	fi
	copy_postgresql
}

#
# Building and running
#

# Copies the checkout to $source, and sets make to the command for builds there.
copy_source() {
	source=$work/tfstate
	make=(make -C "$source" PG_CONFIG="$PG_CONFIG" with_llvm=no)
	as_user mkdir "$source"
	tar -C "$root" --mode=u+w --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
		--exclude=./src/client/tfstate --exclude=./src/http/tfstate-http --exclude=tmp_check -cf - . | as_user tar -C "$source" -xf -
}

# Compiles $source and installs it; arguments go to make.
rebuild() {
	quietly as_user "${make[@]}" "-j$(nproc)" "$@"
	quietly as_user "${make[@]}" install "$@"
}

# Copies the checkout, compiles it and installs it; arguments go to make.
build() {
	copy_source
	rebuild "$@"
}

# Runs git on the checkout, which may belong to somebody else.
git_here() {
	git -c safe.directory="$root" -C "$root" "$@" 2>/dev/null
}

# Sets RELEASED_SOURCE, unless the caller has, to a directory with the source of the last
# release: the commit before the one that froze its script.  Leaves it empty where the checkout
# has no history, or too short a one.
find_released() {
	local last commit
	[[ -z ${RELEASED_SOURCE:-} ]] || return 0
	last=$(sed -n 's/^RELEASED = //p' "$root/Makefile")
	commit=$(git_here log -1 --format=%H --diff-filter=A -- "sql/tfstate--$last.sql") || true
	if [[ -n $commit ]] && git_here cat-file -e "$commit^"; then
		export RELEASED_SOURCE=$work/released
		mkdir "$RELEASED_SOURCE"
		git_here archive "$commit^" | tar -C "$RELEASED_SOURCE" -xf -
	fi
}

with_sanitizer() {
	env PG_LDFLAGS='-Wl,--no-as-needed -lubsan' \
		PG_CFLAGS='-fsanitize=undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment -DUSE_ASSERT_CHECKING' \
		"$@"
}

# Prints a free TCP port.
free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# Starts a server.  Its socket is in $work and open to every role; over TCP a role needs a
# password.  Arguments are further lines for postgresql.conf; initdb gets initdb_options.
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
