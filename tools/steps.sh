# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Steps that show their progress. Sourced by the scripts beside this file, which are POSIX sh.

# Hundredths of a second since boot, in $now: a read of a file, where date(1) would start a process.
clock()
{
	read -r now _ </proc/uptime
	now=${now%.*}${now#*.}
}

# step LABEL LOG COMMAND...: runs the command with its output in LOG, and prints the label and how long it took. On a
# terminal the seconds (and what ninja says of itself) are shown as they pass. Returns the command's status.
step()
{
	step_label=$1
	step_log=$2
	shift 2
	clock
	step_start=$now
	printf '%-52s' "$step_label"
	# setsid: a process group of its own, so that step_stop can end the command and all that it started.
	setsid "$@" >"$step_log" 2>&1 </dev/null &
	step_pid=$!
	if [ -t 1 ]; then
		while kill -0 "$step_pid" 2>/dev/null; do
			clock
			step_done=$(sed -n 's/^\(\[[0-9]*\/[0-9]*\]\).*/\1/p' "$step_log" | tail -n 1)
			printf '\r%-52s%5d s %s' "$step_label" $(((now - step_start) / 100)) "$step_done"
			sleep 0.1
		done
		printf '\r\033[K%-52s' "$step_label"
	fi
	wait "$step_pid" && step_rc=0 || step_rc=$?
	step_pid=
	clock
	step_took=$((now - step_start))
	step_took=$((step_took / 100)).$((step_took / 10 % 10))
	if [ "$step_rc" -eq 0 ]; then
		printf '%5s s\n' "$step_took"
	else
		printf '%5s s  failed\n' "$step_took"
	fi
	return "$step_rc"
}

# Ends the step that runs, if any. A command in the background ignores SIGINT, hence SIGTERM.
step_stop()
{
	[ -n "${step_pid-}" ] || return 0
	kill -s TERM -- "-$step_pid" 2>/dev/null || :
	wait "$step_pid" 2>/dev/null || :
	step_pid=
}
