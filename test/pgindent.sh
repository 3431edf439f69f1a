#!/bin/bash
# test/pgindent.sh [--write]
#
# Checks that the C sources in src/ are indented as pgindent does it, and shows
# the differences; --write changes the files.
#
# pgindent, pg_bsd_indent and the list of the server's types are those of PostgreSQL 18, which
# are built from Debian's source in a minute; typedefs.list has tfstate's own types.  SERVER, a
# directory, keeps them for the next run.  Needs the network and, for packages, root or sudo.
# The exit status is 0 only if there is no difference.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

build_pgindent() {
	[[ ! -x $server/pg_bsd_indent ]] || return 0
	heading 'Building pg_bsd_indent of PostgreSQL 18'
	fetch_postgresql 18 forky "$server/source"
	cd "$server/source"
	quietly ./configure --without-readline --without-zlib --without-icu
	quietly make "-j$(nproc)" -C src/tools/pg_bsd_indent
	cp src/tools/pg_bsd_indent/pg_bsd_indent src/tools/pgindent/{pgindent,typedefs.list} "$server"
	rm -rf "$server/source"
	cd "$work"
}

make_work_directory
install_missing gcc libc6-dev make perl bison flex bzip2
server=${SERVER:-$work/pgindent}
build_pgindent
sort -u "$server/typedefs.list" "$root/typedefs.list" >"$work/typedefs"
mkdir "$work/new"
tar -C "$root" -cf - src | tar -C "$work/new" -xf -
cd "$work/new"
mapfile -t files < <(find src -name '*.[ch]' | sort)
"$server/pgindent" --indent="$server/pg_bsd_indent" --typedefs="$work/typedefs" "${files[@]}"
heading 'Differences'
different=0
for file in "${files[@]}"; do
	diff -u "$root/$file" "$file" || {
		different=$((different + 1))
		[[ ${1:-} != --write ]] || cp "$file" "$root/$file"
	}
done
printf '\n%d of %d files differ\n' $different ${#files[@]}
((different == 0)) || [[ ${1:-} == --write ]]
