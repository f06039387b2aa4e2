#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The disk of the file store is full: pages stay in memory, over the limit; the program goes on with the right bytes,
# the log says so once, and the statistics show it.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl unshare mkfs.ext4 mount
[ "$(id -u)" -eq 0 ] || skip "only root can mount a small disk"
need_userfaultfd
# The mount lives in a namespace of its own: it goes with the test, even if that is killed.
if [ ! "${IN_NAMESPACE:-}" ]; then
	unshare --mount true 2>/dev/null || skip "no mount namespaces here"
	rm -rf "$tmp"
	IN_NAMESPACE=1 exec unshare --mount sh "$0" "$@"
fi
mkdir "$tmp/disk"
truncate -s $((16 * MiB)) "$tmp/image"
mkfs.ext4 -q -F -m 0 "$tmp/image" || skip "mkfs.ext4 does not make a disk of 16 MiB"
mount -o loop "$tmp/image" "$tmp/disk" 2>"$tmp/mount.err" || skip "no loop device here: $(cat "$tmp/mount.err")"
mounted=$tmp/disk

limit=$((8 * MiB))
random_file "$tmp/bytes" 48
TMPDIR=$tmp/disk under full $limit perl "$here/blocks.pl" "$tmp/bytes"
[ "$status" -eq 0 ] || failed_run full "expected status 0 with a full disk; seen $status"
same "$tmp/full.out" "$tmp/bytes" "the bytes that went through memory"
check_paged full
[ "$(stat_of full stored_bytes)" -gt 0 ] || failed_run full "expected some pages in the file before the disk was full"
said=$(lines_like "$tmp/full.err" '^weir: .*(ENOSPC|full|no space)')
[ "$said" -eq 1 ] || failed_run full "expected one line on standard error about the full disk; seen $said"
managed=$(stat_of full peak_managed_bytes)
[ "$managed" -gt "$limit" ] ||
	failed_run full "expected the statistics to show more than the limit of $limit; peak_managed_bytes is $managed"
left=$(find "$tmp/disk" -mindepth 1 ! -name lost+found)
[ ! "$left" ] || fail "expected no file left on the full disk; seen: $left"
