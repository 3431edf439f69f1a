#!/bin/bash
# test/sanitize.sh [undefined] [assert] [cache] [valgrind]
#
# Runs tests on builds that detect internal errors: all four, or the named ones.
#
# undefined	tfstate with the undefined behaviour sanitizer and its own assertions, all tests
# assert	a PostgreSQL with assertions, all tests
# cache		the same, with every cache emptied as often as possible, the regression tests
#			named in $CACHE_TESTS
# valgrind	the same under valgrind, the regression and isolation tests
#
# For the last three PostgreSQL is built from Debian's source, in a few minutes: of the major
# that MAJOR names, by default 15.  SERVER, a directory, keeps it for the next run.  TESTS are
# the arguments of test/all.sh, if not all tests are to be run.  valgrind takes half an hour.
# Needs the network and, for packages, root or sudo.  The exit status is 0 only if no test
# failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

kinds=("$@")
((${#kinds[@]} > 0)) || kinds=(undefined assert cache valgrind)
summary=() status=0

# tests WHAT COMMAND ...: runs a test command, and keeps its last line for the summary.
tests() {
	heading "Tests: $1"
	"${@:2}" 2>&1 | tee "$work/$1.log" || status=1
	summary+=("$1: $(tail -n 1 "$work/$1.log")")
}

# Builds a PostgreSQL with assertions, which informs valgrind about its memory contexts.
build_server() {
	[[ ! -x $server/bin/pg_config ]] || return 0
	heading 'Building PostgreSQL with assertions (this takes some minutes)'
	mkdir -p "$server"
	fetch_postgresql "$major" "${majors[$major]}" "$server/source"
	cd "$server/source"
	quietly ./configure --prefix="$server" --enable-cassert --enable-debug --enable-tap-tests --with-lz4 \
		--without-readline --without-icu CFLAGS='-O1 -DUSE_VALGRIND -Wno-format-truncation -Wno-stringop-truncation'
	quietly make "-j$(nproc)"
	quietly make install
	quietly make -C src/test/isolation install
	cd "$work"
	chmod -R a+rX "$server"
}

# Makes a copy of it whose processes run under valgrind, except those of initdb, because that
# is slow.
build_valgrind() {
	[[ ! -d $server-valgrind ]] || return 0
	cp -a "$server" "$server-valgrind"
	rm -rf "$server-valgrind/source"
	mv "$server-valgrind/bin/postgres" "$server-valgrind/bin/postgres.real"
	cat >"$server-valgrind/bin/postgres" <<-END
		#!/bin/sh
		case \$1 in
			--boot | --single | --check | -V | --version) exec "\$0.real" "\$@" ;;
		esac
		exec valgrind --quiet --trace-children=yes --leak-check=no --gen-suppressions=all \\
			--error-markers=VALGRIND-BEGIN,VALGRIND-END --num-callers=25 \\
			--suppressions='$server/source/src/tools/valgrind.supp' --log-file=/tmp/tfstate-valgrind/%p.log \\
			"\$0.real" "\$@"
	END
	chmod 755 "$server-valgrind/bin/postgres"
}

test_undefined() {
	# shellcheck disable=SC2086
	tests undefined with_sanitizer bash "$root/test/all.sh" ${TESTS:-}
}

test_assert() {
	build_server
	# shellcheck disable=SC2086
	tests assert env PG_CONFIG="$server/bin/pg_config" bash "$root/test/all.sh" ${TESTS:-}
}

test_cache() {
	build_server
	tests cache env PG_CONFIG="$server/bin/pg_config" SETTINGS='debug_discard_caches = 1' \
		bash "$root/test/all.sh" regress ${CACHE_TESTS:-lock session shim guard versions}
}

# The tests under valgrind pass if their results are right and valgrind reports nothing.
test_valgrind() {
	build_server
	build_valgrind
	rm -rf /tmp/tfstate-valgrind
	as_user mkdir /tmp/tfstate-valgrind
	if [[ -n ${TESTS:-} ]]; then
		# shellcheck disable=SC2086
		tests valgrind-tests env PG_CONFIG="$server-valgrind/bin/pg_config" bash "$root/test/all.sh" $TESTS
	else
		tests valgrind-regress env PG_CONFIG="$server-valgrind/bin/pg_config" bash "$root/test/all.sh" regress
		tests valgrind-isolation env PG_CONFIG="$server-valgrind/bin/pg_config" bash "$root/test/all.sh" isolation
	fi
	if grep -l VALGRIND-BEGIN /tmp/tfstate-valgrind/*.log >"$work/complaints"; then
		status=1
		while read -r log; do
			cat "$log"
		done <"$work/complaints"
	fi
	summary+=("valgrind: $(find /tmp/tfstate-valgrind -name '*.log' | wc -l) processes, complaints in $(wc -l <"$work/complaints")")
	rm -rf /tmp/tfstate-valgrind
}

major=${MAJOR:-$oldest_major}
[[ ${majors[$major]:-PyPI} != PyPI ]] || die "Debian has no source of PostgreSQL $major"
prepare
server=${SERVER:-$work/server}
for kind in "${kinds[@]}"; do
	case $kind in
		undefined | assert | cache | valgrind) ;;
		*) die "there is no kind $kind" ;;
	esac
done
for kind in "${kinds[@]}"; do
	[[ $kind == undefined ]] || install_missing bison flex zlib1g-dev liblz4-dev bzip2
	[[ $kind != valgrind ]] || install_missing valgrind
done
for kind in "${kinds[@]}"; do
	"test_$kind"
done
heading 'Summary'
printf '%s\n' "${summary[@]}"
exit $status
