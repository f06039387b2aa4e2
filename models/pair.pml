/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that need two slots at a time, for Spin: who asks for two holds a lock from the first to the second. Variant NO_LOCK,
 * which must hang: each takes one and then another.
 */
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef THREADS
#define THREADS 3
#endif

byte free = SLOTS;
bool locked;

active [THREADS] proctype thread()
{
	byte round = 0;

	do
	:: round == 2 -> break
	:: else ->
		round++;
#ifndef NO_LOCK
		atomic { !locked -> locked = true };
#endif
		/* Waits for a slot: that no wake-up is lost is kmap.pml's. */
		atomic { free > 0 -> free-- };
		atomic { free > 0 -> free-- };
#ifndef NO_LOCK
		locked = false;
#endif
		free++;
		free++
	od
}
