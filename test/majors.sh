#!/bin/bash
# test/majors.sh [SUITE ...]
#
# Runs all tests on each PostgreSQL that Debian has: in bookworm (15), trixie (17)
# and sid (18), or in the named suites.  Each is a bare system of its own, in
# which a user with sudo runs the test command; Terraform is there if this machine
# has it.  Needs root and the network.
#
# From the environment: SYSTEMS, a directory that keeps the systems for the next
# time (1 GB each; without it they go away in the end); MIRROR, another mirror of
# Debian; TESTS, the arguments of the test command.
#
# Prints a line for each suite; the exit status is 0 only if no test failed.

set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=test/system.sh
source "$root/test/system.sh"

# A system with a user who may use sudo, and nothing that tfstate needs.
make_bare_system() {
	heading "Making a system of $suite (this takes a few minutes)"
	make_system "$system" "$suite"
	quietly in_system "$system" apt-get install --yes --no-install-recommends sudo ca-certificates
	quietly in_system "$system" useradd --create-home --shell /bin/bash tester
	printf 'tester ALL=(ALL) NOPASSWD: ALL\n' >"$system/etc/sudoers.d/tester"
	if command -v "$terraform" >/dev/null; then
		install -m 755 "$(command -v "$terraform")" "$system/usr/local/bin/terraform"
	fi
}

# run_suite SUITE: adds what the tests say at their end to $summary.
run_suite() {
	local suite=$1 system=${SYSTEMS:-$work}/$1 version
	[[ -e $system/home/tester ]] || make_bare_system
	copy_checkout "$system/home/tester/tfstate"
	in_system "$system" chown -R tester: /home/tester/tfstate
	heading "The tests in $suite"
	in_system "$system" su - tester -c "cd tfstate && bash test/all.sh ${TESTS:-}" 2>&1 | tee "$work/$suite.log" || failed=1
	version=$(in_system "$system" dpkg-query --show --showformat '${Version}\n' 'postgresql-1[0-9]' | tail -n 1)
	summary+=("$suite	$version	$(tail -n 1 "$work/$suite.log")")
}

((EUID == 0)) || die "only root can make a system of its own"
suites=("$@")
((${#suites[@]} > 0)) || suites=(bookworm trixie sid)
failed=0 summary=()
make_work_directory
for suite in "${suites[@]}"; do
	run_suite "$suite"
done
heading 'Summary'
printf '%s\n' "${summary[@]}"
((failed == 0))
