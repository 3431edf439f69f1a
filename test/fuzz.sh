#!/bin/bash
# test/fuzz.sh [MINUTES [SEED]]
# test/fuzz.sh parsers [MINUTES [SEED]]
# test/fuzz.sh http [MINUTES [SEED]]
#
# Random and malicious calls of everything in tfstate (test/t/503_random_statements.pl), built
# with the undefined behaviour sanitizer and our own assertions: for 10 minutes by default, of
# which sqlsmith gets a third.  Prints the seed, the number of calls of each function, and the
# errors by SQLSTATE.  Fails if the server crashed, raised an internal error, warned of a leak,
# hung, or kept a lock.
#
# The second form runs libFuzzer on the code that reads texts and versions (fuzz/parsers.c),
# starting with fuzz/seeds, with the same sanitizer and assertions.  Prints a line for each
# target, and the input if one fails.
#
# The third form sends random requests to tfstate serve (test/t/706_http_random.pl), whose program
# is built with the address and the undefined behaviour sanitizer.  Prints the number of
# requests and the statuses of the answers.  Fails if the program crashed, leaked, hung, or
# answered with a status of 500 or more, or if a refused request has changed something.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# Compiles the targets into the extension, which is not installed.
build_targets() {
	local runtime
	runtime=$(clang -print-runtime-dir)/libclang_rt.fuzzer_no_main-$(uname -m).a
	if [[ ! -e $runtime ]]; then
		install_missing "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
	fi
	copy_source
	as_user cp "$source/test/fuzz/parsers.c" "$source/src/state/"
	quietly as_user "${make[@]}" "-j$(nproc)" CC=clang SHLIB_EXPORTS= SHLIB_LINK="-lzstd $runtime -lstdc++ -lm" \
		PG_CFLAGS='-O1 -w -DUSE_ASSERT_CHECKING -fsanitize=fuzzer-no-link,undefined -fsanitize-trap=undefined -fno-sanitize=alignment,function'
}

# run_target NAME SECONDS SEED: runs libFuzzer, which keeps its inputs in $work/corpus/NAME.
run_target() {
	local arguments="'-max_total_time=$2', '-seed=$3', '-dict=$source/test/fuzz/json.dict'"
	arguments+=", '-artifact_prefix=$work/$1.', '-rss_limit_mb=0', '-timeout=0', '-handle_usr1=0', '-handle_usr2=0'"
	as_user mkdir -p "$work/corpus/$1" "$source/test/fuzz/seeds/$1"
	as_user "$bindir/postgres" --single -D "$work/data" postgres >"$work/$1.log" 2>&1 <<-END || true
		SELECT fuzz('$1', $arguments, '$work/corpus/$1', '$source/test/fuzz/seeds/$1')
	END
	if grep -q '^Done ' "$work/$1.log"; then
		printf '%-8s %s, %s\n' "$1" "$(grep '^Done ' "$work/$1.log")" "$(grep -o 'cov: [0-9]*' "$work/$1.log" | tail -n 1)"
	else
		failed=1
		tail -n 40 "$work/$1.log"
		head -c 10000 "$work/$1".crash-* | od -c || true
	fi
}

run_parsers() {
	local target targets seed=${2:-$RANDOM} failed=0
	prepare clang
	heading 'Building the targets'
	build_targets
	quietly as_user "$bindir/initdb" -D "$work/data" -U postgres -E UTF8 --locale=C --no-sync
	as_user "$bindir/postgres" --single -D "$work/data" postgres >"$work/log" 2>&1 <<-END
		CREATE FUNCTION fuzz(text, VARIADIC text[]) RETURNS void LANGUAGE c AS '$source/tfstate', 'tfstate_fuzz'
	END
	mapfile -t targets < <(sed -n 's/^\t{"\(.*\)", fuzz_.*/\1/p' "$source/test/fuzz/parsers.c")
	heading "Fuzzing (seed $seed)"
	for target in "${targets[@]}"; do
		run_target "$target" $((${1:-10} * 60 / ${#targets[@]})) "$seed"
	done
	return $failed
}

run_http() {
	prepare libmicrohttpd-dev
	heading 'Building the server for the http backend'
	copy_source
	quietly as_user "${make[@]}" src/http/tfstate-http PG_LDFLAGS='-fsanitize=address,undefined' \
		PG_CFLAGS='-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
	export TFSTATE_HTTP=$source/src/http/tfstate-http FUZZ_MINUTES=${1:-10} FUZZ_SEED=${2:-}
	export ASAN_OPTIONS=detect_leaks=1:exitcode=99:detect_stack_use_after_return=1:quarantine_size_mb=16
	bash "$root/test/all.sh" tap 706_http_random
}

if [[ ${1:-} == parsers ]]; then
	run_parsers "${@:2}"
elif [[ ${1:-} == http ]]; then
	run_http "${@:2}"
else
	prepare sqlsmith
	export FUZZ_SQLSMITH=1 FUZZ_MINUTES=${1:-10} FUZZ_SEED=${2:-}
	with_sanitizer bash "$root/test/all.sh" tap 503_random_statements
fi
