#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir setup says who may use userfaultfd, agrees with weir probe, prints what gives a group the permission, and changes nothing.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_weir

# state: all that it could change.
state()
{
	cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null
	stat -c '%a %G' /dev/userfaultfd 2>/dev/null
	ls /etc/udev/rules.d /etc/sysctl.d 2>/dev/null
	cat /etc/group
}
state >"$tmp/before"

"$WEIR" setup weirdos >"$tmp/out" 2>"$tmp/err"
seen=$?
[ ! -s "$tmp/err" ] || failed_run err "expected no message from weir setup"
if "$BIN/may_userfaultfd"; then
	[ $seen -eq 0 ] && grep -q 'you may use userfaultfd *yes' "$tmp/out" || fail "expected yes, and status 0: $(cat "$tmp/out")"
else
	[ $seen -eq 1 ] && grep -q 'you may use userfaultfd *no' "$tmp/out" || fail "expected no, and status 1: $(cat "$tmp/out")"
fi
if [ -e /dev/userfaultfd ]; then
	grep -qF 'KERNEL=="userfaultfd", GROUP="weirdos", MODE="0660"' "$tmp/out" || fail "expected a rule for udev: $(cat "$tmp/out")"
	grep -q 'groupadd --system weirdos' "$tmp/out" || fail "expected to be told to make the group: $(cat "$tmp/out")"
fi
case $(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null) in
0) grep -q 'sysctl vm.unprivileged_userfaultfd=1' "$tmp/out" || fail "expected the sysctl: $(cat "$tmp/out")" ;;
1) grep -q 'everybody may' "$tmp/out" || fail "expected that everybody may: $(cat "$tmp/out")" ;;
esac
grep -q 'What it means' "$tmp/out" || fail "expected what it means: $(cat "$tmp/out")"
"$WEIR" setup >"$tmp/out"
[ ! -e /dev/userfaultfd ] || grep -qF 'GROUP="weir"' "$tmp/out" || fail "expected the group weir by default: $(cat "$tmp/out")"
for group in '' 'a b' 'a";x' --such; do
	"$WEIR" setup "$group" >"$tmp/out" 2>&1
	[ $? -eq 125 ] || fail "expected status 125 for the group '$group': $(cat "$tmp/out")"
done

state >"$tmp/after"
same "$tmp/after" "$tmp/before" "what weir setup could have changed"
