#!/bin/bash
# test/packages.sh [bookworm | trixie | sid ...]
#
# Builds the Debian packages in a bare system as the README says, and has lintian look at them.
# In another bare system it installs, uses, upgrades and removes them, and then that system must
# be as before.  In trixie, it also runs the commands of Containerfile, without making images.
# Without arguments: in bookworm and trixie.
#
# From the environment: SYSTEMS, a directory that keeps bare systems and packages for the next
# run, as test/bare.sh does; MIRROR, another mirror of Debian.  Needs root and the network; takes
# about five minutes for each release.
#
# The last line is the count of all checks; the exit status is 0 only if none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

# Prints the commands of the README's section about packages.
commands() {
	sed -n '/^### Debian packages/,/^##/s/^    \([^ ].*\)/\1/p' "$root/README.md" | sed 's/^sudo //; s/apt-get install/& --yes/'
}

# run WHAT COMMAND: runs a command there, which has to succeed.
run() {
	heading "$trial: $1"
	check "$1" 0 "$(in_system "$system" bash -euc "$2" >"$work/log" 2>&1 </dev/null && echo 0 || tail -n 40 "$work/log")"
}

# Prints the relative links on the installed pages of the manual that lead to no installed file.
dead_links() {
	# shellcheck disable=SC2016
	find "$system"/usr/share/doc/*tfstate* -name '*.md*' -print0 | xargs -0 perl -MFile::Basename -e '
		my $links = 0;
		foreach my $page (@ARGV)
		{
			open(my $file, "-|", "zcat", "-f", $page) or die "$page: $!";
			my $text = do { local $/; <$file> };
			$text =~ s/^```.*?^```$//msg;
			$text =~ s/`[^`\n]*`//g;
			foreach my $link (grep { !/^https?:/ } $text =~ /\]\(([^)#\s]+)/g)
			{
				$links++;
				print $page =~ s{.*/usr/share/doc/}{}r . ": $link\n" if !-e dirname($page) . "/$link";
			}
		}
		print "the pages have only $links links\n" if $links < 100;'
}

# Prints the instructions of one kind of a target of Containerfile, without their name.
instructions() {
	awk -v target="$1" -v kind="$2" '
		$1 == "FROM" { here = $NF == target }
		here && $1 == kind { sub(/^[A-Z]+ /, ""); print }' "$root/Containerfile"
}

# Follows the instructions of a target of Containerfile in the system $system, which is as its
# base, with what was built in the system $built.
follow() {
	local files file command
	while read -r -a files; do
		mkdir -p "$system${files[-1]}"
		for file in "${files[@]:1:${#files[@]}-2}"; do
			# shellcheck disable=SC2086
			check "$1: $file can be copied" '' "$(cp -R $built${file/%\//\/.} "$system${files[-1]}" 2>&1)"
		done
	done < <(instructions "$1" COPY)
	while IFS= read -r command; do
		run "$1: $command" "$command"
	done < <(instructions "$1" RUN)
}

# The targets of Containerfile, which all start from trixie.
check_images() {
	check 'Containerfile builds the packages as the README says' "$(commands | grep -v '[.][.]/')" \
		"$(instructions build RUN | grep -v '^apt-get update$\|^dpkg-deb ')"
	system=$built
	run 'the library is unpacked' "cd /srv/tfstate && $(instructions build RUN | grep '^dpkg-deb ')"
	system=$systems/$suite-image
	rm -rf "$system"
	cp -a --reflink=auto "$base" "$system"
	follow client
	run 'client: it starts' "su -s /bin/bash $(instructions client USER) -c '$(instructions client ENTRYPOINT | tr -d '[]",') --version'"
	rm -rf "$system"
	cp -a --reflink=auto "$base" "$system"
	quietly in_system "$system" apt-get install --yes --no-install-recommends postgresql-17
	follow server
	run 'server: the extension can be created' "$in_use"'
		as_postgres "psql -XAtqc \"SELECT tfstate_lock(chr(97)) IS NOT NULL\"" | grep t
		pg_ctlcluster "$version" main stop'
	rm -rf "$system"
	mkdir "$system"
	follow volume
	check 'volume: it has the library and the scripts' 'extension lib share tfstate--0.1.sql tfstate.control tfstate.so' \
		"$(cd "$system" && find . -mindepth 1 -printf '%f\n' | grep -v '^tfstate--0[.][^1]\|^tfstate--0.1--' | sort | paste -sd' ')"
	rm -rf "$system"
}

# What an administrator does with the packages.  The last lines are what is compared.
in_use='
	version=$(ls /usr/lib/postgresql)
	pg_ctlcluster "$version" main start
	as_postgres() { su postgres -c "cd / && $1"; }
	as_postgres "psql -XAtqc \"CREATE EXTENSION IF NOT EXISTS tfstate\""
	'

run_trial() {
	local suite=$1 trial=$1 base=$systems/$1 system before=$work/before after=$work/after
	packages=$systems/packages-$suite
	mkdir -p "$packages/partial"
	if [[ ! -e $base.made ]]; then
		rm -rf "$base"
		make_system "$base" "$suite"
		touch "$base.made"
	fi

	system=$systems/$suite-build
	rm -rf "$system"
	cp -a --reflink=auto "$base" "$system"
	copy_checkout "$system/srv/tfstate"
	while IFS= read -r command; do
		# what is built is installed in the other system
		[[ $command == *'../'* ]] || run "$command" "cd /srv/tfstate && $command"
	done < <(commands)
	quietly in_system "$system" apt-get install --yes --no-install-recommends lintian
	heading "$trial: lintian"
	check 'lintian has nothing to say' '' "$(in_system "$system" bash -c 'cd /srv && lintian --allow-root --fail-on none *.changes' 2>&1)"

	local built=$system
	system=$systems/$suite-use
	rm -rf "$system"
	cp -a --reflink=auto "$base" "$system"
	quietly in_system "$system" apt-get install --yes --no-install-recommends postgresql
	list_packages >"$before.packages"
	list_files >"$before.files"
	mkdir "$system/root/new"
	cp "$built"/srv/*.deb "$system/root"
	rm -f "$system"/root/*-dbgsym_*
	# The same files, as a later version
	in_system "$system" bash -euc 'cd /root
		for package in *.deb; do
			dpkg-deb --raw-extract "$package" unpacked
			version=$(dpkg-deb --field "$package" Version)
			sed -i "s/^Version: .*/&+1/; s/(= $version)/(= $version+1)/" unpacked/DEBIAN/control
			dpkg-deb --build --root-owner-group unpacked new >/dev/null
			rm -r unpacked
		done'
	run 'the packages can be installed' "cd /root/x 2>/dev/null || mkdir /root/x && cd /root/x && $(commands | grep '[.][.]/')"
	check 'who upgrades is told to update the extension' 1 "$(zcat "$system"/usr/share/doc/postgresql-*-tfstate/NEWS.Debian.gz | grep -c 'ALTER EXTENSION tfstate UPDATE')"
	check 'links on the installed pages of the manual lead to installed files' '' "$(dead_links)"
	check 'each of the packages that has the manual has all of it' '' "$(for directory in "$system"/usr/share/doc/{tfstate,postgresql-*-tfstate}; do
		diff <(cd "$root" && ls README.md SECURITY.md monitoring/* doc/*/* doc/*.md) <(cd "$directory" && ls -- *.md monitoring/* doc/*/* doc/*.md) || true
	done)"
	run 'a lock is taken, by the program in its package' "$in_use"'
		as_postgres "tfstate lock prod/network" >/root/id
		as_postgres "tfstate run other -- tfstate ls" | grep other'
	run 'after an upgrade under a session that uses it, the lock is there' "$in_use"'
		mkfifo /tmp/session
		chmod 666 /tmp/session
		as_postgres "psql -XAtq </tmp/session >/tmp/session.out 2>&1" &
		exec 3>/tmp/session
		echo "SELECT fence > 0 FROM tfstate_lock(\$\$held\$\$, mode => \$\$session\$\$);" >&3
		until grep -q t /tmp/session.out; do sleep 0.1; done
		apt-get install --yes /root/new/*.deb
		dpkg-query --show --showformat "\${Version}\n" "*tfstate" | grep -F +1
		as_postgres "tfstate ls --csv" | grep "^held,"
		echo "SELECT tfstate_unlock(\$\$held\$\$) ->> \$\$Path\$\$;" >&3
		exec 3>&-
		wait %1
		grep -x held /tmp/session.out
		as_postgres "tfstate who prod/network" | grep "$(head -n 1 /root/id)"
		as_postgres "tfstate unlock prod/network $(head -n 1 /root/id)"'
	run 'the extension can be dropped, and the packages removed' "$in_use"'
		as_postgres "psql -XAtqc \"DROP EXTENSION tfstate\""
		pg_ctlcluster "$version" main stop
		rm -r /root/x /root/new /root/*.deb /root/id /tmp/session /tmp/session.out
		apt-get purge --yes "postgresql-*-tfstate" tfstate tfstate-http
		! ls /usr/share/postgresql/*/extension/tfstate* /usr/lib/postgresql/*/lib/tfstate* /usr/lib/postgresql/*/lib/bitcode/tfstate* \
			/usr/bin/tfstate* /usr/share/doc/*tfstate*
		apt-get autopurge --yes -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false'
	check 'the packages are as before' '' "$(list_packages | diff "$before.packages" - || true)"
	list_files >"$after.files"
	check 'the files are as before' '' "$(changed_files "$before.files" "$after.files")"

	# The packages' own tests
	system=$built
	run 'the packages can be installed where they were built' 'cd /srv/tfstate && apt-get install --yes ../postgresql-*-tfstate_*.deb ../tfstate_*.deb ../tfstate-http_*.deb'
	run 'debian/tests/installcheck' 'cd /srv/tfstate && chown -R postgres: . && su -s /bin/bash postgres -c debian/tests/installcheck'
	run 'debian/tests/client' 'cd /srv/tfstate && su -s /bin/bash postgres -c debian/tests/client'
	[[ $suite != trixie ]] || check_images
	rm -rf "$built" "$systems/$suite-use"
}

((EUID == 0)) || die "only root can make a system of its own"
make_work_directory
systems=${SYSTEMS:-$work/systems}
mkdir -p "$systems"
(($# > 0)) || set -- bookworm trixie
for one in "$@"; do
	case $one in
		bookworm | trixie | sid) run_trial "$one" ;;
		*) die "not a release: $one" ;;
	esac
done
if ((failed > 0)); then
	heading 'What failed'
	printf '%s\n' "${failures[@]}"
fi
printf '\n%s passed, %s failed\n' $passed $failed
((failed == 0 && passed > 0))
