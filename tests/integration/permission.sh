#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A user who may not use userfaultfd is told both ways to get the permission, and nothing starts. One to whom
# /dev/userfaultfd is given needs nothing else.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools setpriv unshare perl
need_weir
[ "$(id -u)" -eq 0 ] || skip "only root can become a user without the permission"
user=$(id -u nobody 2>/dev/null) || skip "there is no user nobody"
group=$(id -g nobody)
chmod 777 "$tmp"

as_nobody()
{
	setpriv --reuid="$user" --regid="$group" --clear-groups "$@"
}

as_nobody true || skip "cannot become nobody here"
as_nobody test -x "$WEIR" || skip "nobody cannot read $WEIR: some folder above it is closed"
if as_nobody "$BIN/may_userfaultfd"; then
	skip "here everybody may use userfaultfd"
fi

as_nobody "$WEIR" run --limit 64M -- touch "$tmp/marker" >"$tmp/run.out" 2>"$tmp/run.err"
seen=$?
[ $seen -eq 125 ] || failed_run run "expected status 125 without permission for userfaultfd; seen $seen"
[ ! -e "$tmp/marker" ] || failed_run run "expected nothing started; the program has run"
[ ! -s "$tmp/run.out" ] || failed_run run "expected nothing on standard output"
[ "$(lines_like "$tmp/run.err" '^weir: ')" = 1 ] || failed_run run "expected one line that starts with 'weir: '"
for remedy in vm.unprivileged_userfaultfd /dev/userfaultfd; do
	grep -q -F -e $remedy "$tmp/run.err" || failed_run run "expected the message to name $remedy"
done

# The device, given away in a mount namespace of its own: the machine's stays as it is.
[ -c /dev/userfaultfd ] || {
	say "no /dev/userfaultfd here: the second part is not tested"
	exit 0
}
major=$(($(stat -c 0x%t /dev/userfaultfd)))
minor=$(($(stat -c 0x%T /dev/userfaultfd)))
mknod -m 666 "$tmp/device" c $major $minor || skip "cannot make a device file in $tmp"
given()
{
	unshare --mount sh -c 'mount --bind "$1" /dev/userfaultfd || exit 77; shift; exec "$@"' sh "$tmp/device" \
		setpriv --reuid="$user" --regid="$group" --clear-groups "$@"
}
given "$BIN/may_userfaultfd" || {
	say "a device file in $tmp cannot be used: the second part is not tested"
	exit 0
}
given "$WEIR" run --limit 5M -- perl "$here/hash.pl" 60000 >"$tmp/run.out" 2>"$tmp/run.err"
seen=$?
[ $seen -eq 0 ] || failed_run run "expected status 0 with access to /dev/userfaultfd; seen $seen"
perl "$here/hash.pl" 60000 >"$tmp/alone.out"
same "$tmp/run.out" "$tmp/alone.out" "as nobody, with the device"
