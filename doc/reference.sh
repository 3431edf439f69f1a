#!/bin/bash
# doc/reference.sh
#
# Generates the reference anew, from the comments of the extension and the help of the program,
# on a throwaway server: see doc/reference.pl.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../test/lib/setup.sh"

prepare
build
start_server
"$bindir/psql" -Xq -c 'CREATE EXTENSION tfstate'
PATH=$bindir:$PATH perl "$root/doc/reference.pl" "$root/doc/reference"
