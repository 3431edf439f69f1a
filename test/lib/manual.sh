# test/lib/manual.sh
#
# What the commands of a page of the manual, and the hidden ones in its comments, can use when
# test/lib/Manual.pm runs it.
#
# shellcheck shell=bash

trap 'kill $(jobs -p) 2>/dev/null; for server in db[12]; do [[ ! -d $server ]] || stop_server $server; done' EXIT
viewer=viewer

# What pages show as the ID of a lock is in commands the ID of the newest lock that is held.
with_id() {
	sed "s/20c0c4fe-cecc-4368-acbd-2514cee03c88/$(psql -XAtqc 'SELECT id FROM tfstate_holders ORDER BY created DESC LIMIT 1' 2>/dev/null)/g"
}

# Runs the statements or commands in standard input.
run_psql() {
	with_id | psql -X "$@"
}

run_shell() {
	with_id >"$HOME/.commands"
	. "$HOME/.commands"
}

# Runs statements as the superuser, without output.
quietly() {
	psql -Xq -o /dev/null -v ON_ERROR_STOP=1 -c "$@"
}

# Waits until a query returns t.
wait_until() {
	local i
	for ((i = 0; i < 300; i++)); do
		[[ $(psql -XAtq -c "$1") != t ]] || return 0
		sleep 0.1
	done
	echo "this has not become true: $1"
	return 1
}

# Lets a session in the background take a lock, or wait for it, in session mode, as somebody.
hold() {
	psql -Xq -c "SET tfstate.who = '$2'" -c "SELECT tfstate_lock('$1', '{\"Operation\":\"apply\"}', mode => 'session', wait => NULL)" \
		-c 'SELECT pg_sleep(600)' >/dev/null 2>&1 &
}

# Writes a state, an expression in SQL, into schema.states as alice does, under its lock.
write_state() {
	psql -Xq -o /dev/null -v ON_ERROR_STOP=1 <<END
SET tfstate.who = 'alice@laptop';
SELECT tfstate_lock('$1.states/prod', '{"Operation":"apply"}');
INSERT INTO $1.states (name, data) VALUES ('prod', $2) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
SELECT tfstate_unlock('$1.states/prod');
END
}

# Prints a resource in JSON: instance MODE TYPE NAME REST_OF_INSTANCE
instance() {
	printf '{"mode":"%s","type":"%s","name":"%s","provider":"provider[\\"registry.terraform.io/hashicorp/aws\\"]","instances":[{%s}]}' "$@"
}

# Prints a state as a literal of SQL: state SERIAL RESOURCES OUTPUTS
state() {
	printf "'%s'" "{\"version\":4,\"terraform_version\":\"1.11.4\",\"serial\":$1,\"lineage\":\"5c3a\",\"outputs\":{$3},\"resources\":[$2]}"
}

# Prints an expression of SQL for a state of 5 MB, in which a number depends on the serial.
big_state() {
	cat <<END
(SELECT format('{"version":4,"terraform_version":"1.11.4","serial":%s,"lineage":"5c3a","outputs":{},"resources":[%s]}', $1,
	string_agg(format('{"mode":"managed","type":"aws_instance","name":"n%s","provider":"aws","instances":[{"attributes":{"id":"i-%s",'
		'"changed":%s,"tags":"%s"}}]}', n, md5(n::text), CASE n WHEN 1000 THEN $1 ELSE 7 END,
		(SELECT string_agg(md5(format('%s %s', n, greatest(m, 48))), '') FROM generate_series(1, 58) m)), ','))
   FROM generate_series(1, 2334) n)
END
}

# Makes a project of Terraform in the current directory, whose state is in a schema, and its
# environment, with a role for it.
new_project() {
	quietly "DO \$\$ BEGIN CREATE ROLE terraform LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$" \
		-c "SELECT tfstate_attach('$1', role => 'terraform')"
	write_project "$1"
	export PG_CONN_STR="postgres://terraform@127.0.0.1:$PGPORT/$PGDATABASE?sslmode=disable"
	terraform init >/dev/null
}

# Writes the configuration of such a project.
write_project() {
	cat >main.tf <<END
terraform {
  backend "pg" {
    schema_name          = "$1"
    skip_schema_creation = true
    skip_table_creation  = true
    skip_index_creation  = true
  }
}
variable "range" {
  default = "10.0.0.0/16"
}
resource "terraform_data" "vpc" {
  input = var.range
}
output "range" {
  value = terraform_data.vpc.output
}
END
}

# Starts an apply by somebody, which has the lock, and asks, and is answered by: echo yes >&7
apply_by() {
	local who=$1
	shift
	mkfifo answers
	exec 7<>answers
	env "$@" PGOPTIONS="-c tfstate.who=$who" terraform apply <answers >applied 2>&1 &
	wait_until 'SELECT count(*) > 0 FROM tfstate_holders'
}

# Runs the commands in a file of YAML, the values of a key, one after the other.
run_yaml() {
	local command
	while IFS= read -r command; do
		eval "$command" || return
	done < <(perl -MCPAN::Meta::YAML -e '
		my ($file, $key) = @ARGV;
		sub find { my ($in) = @_;
			if (ref $in eq "ARRAY") { find($_) foreach @$in }
			if (ref $in eq "HASH") { foreach (sort { $b cmp $a } keys %$in) {
				$_ eq $key ? print map { "$_\n" } ref $in->{$_} ? @{ $in->{$_} } : $in->{$_} : find($in->{$_}) } } }
		my $yaml = CPAN::Meta::YAML->read($file) or die CPAN::Meta::YAML->errstr;
		find(@$yaml)' "$1" "$2")
}

# Starts PgBouncer with pgbouncer.ini, at another port, which is put into $pooler_port.
start_pgbouncer() {
	pooler_port=$((PGPORT - 5000))
	sed "s/port=5432/port=$PGPORT/; s/6432/$pooler_port/" pgbouncer.ini >pooler.ini
	printf 'unix_socket_dir =\n' >>pooler.ini
	PATH=$PATH:/usr/sbin pgbouncer pooler.ini >pooler.log 2>&1 &
	local i
	for ((i = 0; i < 300; i++)); do
		! grep -q 'process up' pooler.log || return 0
		sleep 0.1
	done
	cat pooler.log
}

# Starts db1, a server with the database states, and its standby db2, on ports of their own,
# $port1 and $port2.  From then on PGHOST and PGPORT name db1.
start_pair() {
	port1=$((PGPORT - 6000)) port2=$((PGPORT - 7000))
	initdb -A trust -N -E UTF8 --locale=C -U "$PGUSER" -D db1 >/dev/null
	cat >>db1/postgresql.conf <<-END
		port = $port1
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		fsync = off
	END
	start_server db1
	export PGHOST=127.0.0.1 PGPORT=$port1
	createdb states
	quietly 'CREATE EXTENSION tfstate'
	pg_basebackup --checkpoint=fast --write-recovery-conf -D db2
	printf "port = %s\ncluster_name = 'db2'\n" "$port2" >>db2/postgresql.conf
	start_server db2
}

# Start one of them, and stop it as a crash does.
start_server() {
	pg_ctl --silent --wait --log="$1.log" -D "$1" start
}

stop_server() {
	pg_ctl --silent --wait --mode=immediate -D "$1" stop
}
