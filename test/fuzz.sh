#!/bin/bash
# test/fuzz.sh [MINUTES [SEED]]
#
# Random and nasty calls of everything that tfstate has (test/t/012_fuzz.pl), built
# with the sanitizer of undefined behaviour and our own assertions: for 10 minutes if
# nothing else is said, of which a third is sqlsmith's.  Prints the seed, how often
# each function was called, and the errors by SQLSTATE.  Fails if the server crashed,
# raised an internal error, warned of a leak, hung, or kept a lock.

set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare sqlsmith
export FUZZ_SQLSMITH=1 FUZZ_MINUTES=${1:-10} FUZZ_SEED=${2:-}
with_sanitizer bash "$root/test/all.sh" tap 012_fuzz
