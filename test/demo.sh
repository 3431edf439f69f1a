#!/bin/bash
# test/demo.sh
#
# Shows what tfstate does, on a throwaway server: two psql sessions, and then two real runs of
# Terraform, or of what TERRAFORM names, want the same lock.  Every outcome is checked; the
# exit status is 0 only if all were right.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

declare -A input output
answer=

# Opens a psql session that stays open, under the name $1.
open_session() {
	local in out
	mkfifo "$work/$1.in" "$work/$1.out"
	exec {in}<>"$work/$1.in" {out}<>"$work/$1.out"
	input[$1]=$in
	output[$1]=$out
	in_background "$bindir/psql" -X -q -P format=wrapped -P columns=100 <&"$in" >&"$out" 2>&1
}

# Runs the statement $2 in the session $1; shows it and its answer, which is left in $answer.
ask() {
	local line
	printf '%s=> %s\n' "$1" "${2//$'\n'/$'\n'$1-> }"
	# psql writes the \warn after the statement's result
	printf '%s\n\\warn end of answer\n' "$2" >&"${input[$1]}"
	answer=
	while IFS= read -r -t 60 line <&"${output[$1]}" || die "no answer to this statement"; do
		[[ $line != 'end of answer' ]] || break
		answer+=$line$'\n'
	done
	answer=$(printf '%s' "$answer")
	[[ -z $answer ]] || printf '%s\n\n' "$answer"
}

# Ends the demo if $answer does not match the shell pattern $1.
expect() {
	# shellcheck disable=SC2053
	[[ $answer == $1 ]] || die "expected here: ${1//\*/ ... }"
}

# Sets environment to the variables for a Terraform of the person $1.
set_environment() {
	environment=(
		"PG_CONN_STR=postgres://terraform:secret@127.0.0.1:$PGPORT/$PGDATABASE?sslmode=disable"
		"PG_SKIP_SCHEMA_CREATION=true"
		"PG_SKIP_TABLE_CREATION=true"
		"PG_SKIP_INDEX_CREATION=true"
		"PGOPTIONS=-c tfstate.who=$1 -c tfstate.operation=apply"
	)
}

# Runs a Terraform command for the person $1, in a directory of their own.
terraform_as() {
	local who=$1 environment
	shift
	set_environment "$who"
	as_user env "${environment[@]}" "$terraform" "-chdir=$work/${who%@*}" "$@" -input=false -no-color 2>&1
}

apply_as() {
	terraform_as "$1" apply -auto-approve -var "by=$1"
}

# Writes Terraform's configuration for the person $1 and runs terraform init.
# A run is slow while the file $work/slow is there.
init_as() {
	local directory=$work/${1%@*}
	as_user mkdir "$directory"
	as_user tee "$directory/main.tf" >/dev/null <<-END
		terraform {
		  backend "pg" {}
		}

		variable "by" {}

		resource "terraform_data" "network" {
		  input = var.by

		  provisioner "local-exec" {
		    command = "while [ -e '$work/slow' ]; do sleep 0.2; done"
		  }
		}
	END
	quietly terraform_as "$1" init
}

# Waits until $1 holds a lock, which the background job $2 takes.
await_holder() {
	local tries
	for ((tries = 0; tries < 300; tries++)); do
		if "$bindir/psql" -XAtc "SELECT who FROM tfstate_holders" | grep -qx "$1"; then
			return
		fi
		kill -0 "$2" 2>/dev/null || break
		sleep 0.2
	done
	cat "$work/${1%@*}.log" >&2
	die "$1 did not get the lock"
}

demo_psql() {
	heading 'Alice takes a lock in psql'
	open_session alice
	open_session bob
	ask alice "SET tfstate.who = 'alice@laptop';"
	ask alice "SELECT * FROM tfstate_lock('prod/network',
    '{\"Operation\":\"apply\",\"Info\":\"https://ci.example/job/4711\"}');"
	expect '*(1 row)*'

	heading 'Bob wants the same lock, and is told who has it'
	ask bob "SET tfstate.who = 'bob@ci';"
	ask bob "SELECT * FROM tfstate_lock('prod/network');"
	expect 'ERROR:  state lock "prod/network" is held by alice@laptop: apply since *info "https://ci.example/job/4711")*'
	ask bob 'SELECT lockid, who, operation, age, mode, fence FROM tfstate_holders;'
	expect '*prod/network*alice@laptop*(1 row)*'

	heading 'Alice unlocks, and Bob gets it'
	ask alice "SELECT tfstate_unlock('prod/network') ->> 'Who' AS released;"
	expect '*alice@laptop*(1 row)*'
	ask bob "SELECT * FROM tfstate_lock('prod/network');"
	expect '*(1 row)*'
	ask bob "SELECT tfstate_unlock('prod/network') ->> 'Who' AS released;"
	expect '*bob@ci*(1 row)*'
}

demo_terraform() {
	local environment alice status=0
	heading 'A table for the states of Terraform, and a role that may use it'
	ask admin "CREATE ROLE terraform LOGIN PASSWORD 'secret';"
	ask admin "SELECT tfstate_attach(role => 'terraform');"
	expect '*backend "pg"*(1 row)*'
	init_as alice@laptop
	init_as bob@ci

	heading 'Alice runs terraform apply, a slow one, and so holds the lock'
	set_environment alice@laptop
	printf 'alice$ export %s\n' "${environment[@]@Q}"
	printf 'alice$ %s apply -auto-approve\n\n' "${terraform##*/}"
	touch "$work/slow"
	in_background apply_as alice@laptop >"$work/alice.log"
	alice=$!
	await_holder alice@laptop "$alice"
	ask admin 'SELECT lockid, who, operation, age, mode, fence FROM tfstate_holders;'

	heading 'Bob runs terraform apply, and is told who has the lock'
	printf 'bob$ %s apply -auto-approve\n' "${terraform##*/}"
	if apply_as bob@ci >"$work/bob.log"; then
		die "Bob's run was not refused"
	fi
	cat "$work/bob.log"
	tr -s ' \n' ' ' <"$work/bob.log" | grep -q 'is held by alice@laptop: apply since' ||
		die "Bob was not told that Alice has the lock"
	printf '\n(The block "Lock Info" is about Bob: Terraform fills it in itself.)\n'

	heading "Alice's run ends"
	rm "$work/slow"
	wait "$alice" || status=$?
	cat "$work/alice.log"
	((status == 0)) || die "Alice's run failed"

	heading 'Bob runs terraform apply again, and gets the lock'
	printf 'bob$ %s apply -auto-approve\n\n' "${terraform##*/}"
	apply_as bob@ci || die "Bob's second run failed"

	heading 'Every state that they wrote is kept'
	ask admin 'SELECT number, operation, serial, who, lock_operation, resources FROM tfstate_versions;'
	expect '*alice@laptop*bob@ci*'
	ask admin "SELECT tfstate_rollback('terraform_remote_state.states/default', 2) AS new_version;"
	expect '*(1 row)*'
}

prepare demo
heading 'Building tfstate and starting a server for this demo'
# shellcheck disable=SC2119
build
start_server
open_session admin
ask admin 'CREATE EXTENSION tfstate;'
expect ''

demo_psql
where='psql'
if command -v "$terraform" >/dev/null; then
	demo_terraform
	where='psql and in Terraform'
else
	heading 'Terraform is not installed here: the part of the demo that runs it is left out'
fi
printf '\ndemo finished: tfstate refused a second lock in %s, and named the holder\n' "$where"
