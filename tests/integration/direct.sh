#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Reads past the page cache (O_DIRECT) into memory that leaves and comes back meanwhile: what the device has written is there.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
disk_folder
patience=120
file=$store/blocks

"$BIN/direct" "$file" 4
status=$?
[ $status -ne 77 ] || skip "no O_DIRECT in $store"
[ $status -eq 0 ] || fail "expected status 0 alone; seen $status"
under direct $((2 * MiB)) "$BIN/direct" "$file" 16
rm -f "$file"
[ "$status" -eq 0 ] || failed_run direct "expected status 0; seen $status"
check_paged direct
