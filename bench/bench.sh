#!/bin/bash
# bench/bench.sh [--quick] [--output DIRECTORY] [PART ...]
#
# Compares tfstate with the alternatives: etcd, redis, ZooKeeper, and what
# PostgreSQL itself has.  Installs what is missing, starts every server with a data
# directory of its own, flushed to a real disk, runs the parts (those of bench.pl,
# all by default) and writes into the directory (tfstate-bench by default):
#
# results.tsv	every single measurement
# report.md		tables of medians, spreads and ratios; also printed
# *.svg			plots
#
# It takes half an hour, on a slow machine an hour; with --quick two or three
# minutes, which is enough to see that it works.  Nothing else should run on the
# machine.  The part growth runs only if it is named; it takes ten to twenty minutes.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../test/lib/setup.sh"

here=$PWD output=tfstate-bench
arguments=()
while (($# > 0)); do
	case $1 in
		--output)
			output=$2
			shift
			;;
		*)
			arguments+=("$1")
			;;
	esac
	shift
done
[[ $output == /* ]] || output=$here/$output

java=/usr/share/java
classpath=$java/zookeeper.jar:$java/curator-recipes.jar:$java/curator-framework.jar:$java/curator-client.jar
classpath+=:$java/guava.jar:$java/slf4j-api.jar:$java/slf4j-nop.jar

# Compiles the driver of each peer into $work.
build_drivers() {
	quietly gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -I/usr/include/postgresql -o "$work/driver" "$root/bench/driver.c" \
		-L"$("$PG_CONFIG" --libdir)" -lpq -lhiredis -lpthread
	quietly env GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$work/go" \
		go build -o "$work/etcd-driver" "$root/bench/etcd.go"
	quietly javac -d "$work" -cp "$classpath" "$root/bench/Curator.java"
}

# Starts a server in the background, with the directory $1 below $work as its
# current directory; its output goes there, too.
start_peer() {
	as_user mkdir "$work/$1"
	in_background as_user env --chdir="$work/$1" "${@:2}" >"$work/$1.log" 2>&1
}

# redis appends to a file, which is flushed at every change or every second.
start_redis() {
	start_peer "redis-$1" redis-server --port "$2" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync "$1"
}

start_etcd() {
	local peer
	peer=http://127.0.0.1:$(free_port)
	start_peer etcd etcd --data-dir data --log-level error --logger zap \
		--listen-client-urls "$1" --advertise-client-urls "$1" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer"
}

start_zookeeper() {
	printf '%s\n' "dataDir=$work/zookeeper" "clientPort=$1" clientPortAddress=127.0.0.1 tickTime=2000 \
		maxClientCnxns=0 admin.enableServer=false >"$work/zoo.cfg"
	start_peer zookeeper java -cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$work/zoo.cfg"
}

# Waits until a server listens on port $1.
wait_for_port() {
	local i
	for ((i = 0; i < 300; i++)); do
		{ : >"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null && return
		sleep 0.1
	done
	die "nobody listens on port $1; see $work"
}

# Each peer that has tables has a database of its own.  All clients use TCP, because
# some of the peers have nothing else.
start_servers() {
	local database etcd_port zookeeper_port
	start_server 'fsync = on'
	for database in postgres template1; do
		quietly "$bindir/psql" -X -v ON_ERROR_STOP=1 -d $database -c "ALTER ROLE postgres PASSWORD 'bench'" \
			-c 'CREATE EXTENSION tfstate' -f "$root/bench/peers.sql"
	done
	for database in durable durable-async durable-nohistory session sql sql-async plpgsql; do
		quietly "$bindir/createdb" $database
	done
	export PGHOST=127.0.0.1 PGPASSWORD=bench POSTGRESQL_PID
	POSTGRESQL_PID=$(head -n 1 "$work/data/postmaster.pid")

	export REDIS_ALWAYS_PORT REDIS_EVERYSEC_PORT ETCD_ENDPOINT ZOOKEEPER_ENDPOINT
	export REDIS_ALWAYS_PID REDIS_EVERYSEC_PID ETCD_PID ZOOKEEPER_PID
	REDIS_ALWAYS_PORT=$(free_port)
	start_redis always "$REDIS_ALWAYS_PORT"
	REDIS_ALWAYS_PID=$!
	REDIS_EVERYSEC_PORT=$(free_port)
	start_redis everysec "$REDIS_EVERYSEC_PORT"
	REDIS_EVERYSEC_PID=$!
	etcd_port=$(free_port)
	ETCD_ENDPOINT=http://127.0.0.1:$etcd_port
	start_etcd "$ETCD_ENDPOINT"
	ETCD_PID=$!
	zookeeper_port=$(free_port)
	ZOOKEEPER_ENDPOINT=127.0.0.1:$zookeeper_port
	start_zookeeper "$zookeeper_port"
	ZOOKEEPER_PID=$!
	wait_for_port "$REDIS_ALWAYS_PORT"
	wait_for_port "$REDIS_EVERYSEC_PORT"
	wait_for_port "$etcd_port"
	wait_for_port "$zookeeper_port"
}

# not below /tmp, which may be in memory
work_parent=/var/tmp
prepare libpq-dev redis-server redis-tools libhiredis-dev etcd-server golang-go golang-etcd-server-dev \
	default-jdk-headless libzookeeper-java libcurator-recipes-java gnuplot-nox
heading 'Building tfstate and the drivers'
# shellcheck disable=SC2119
build
build_drivers
start_servers

export WORK=$work BINDIR=$bindir CLASSPATH=$classpath:$work
mkdir -p "$output"
perl "$root/bench/bench.pl" "${arguments[@]}" >"$output/results.tsv"
perl "$root/bench/report.pl" "$output"
