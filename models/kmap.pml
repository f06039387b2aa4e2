/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The protocol of src/kmap/ for Spin: threads that hold a range of a file at a time, on fewer slots than threads. What is one step
 * here is one atomic access there, and all of them are in one order (the accesses that matter are sequentially
 * consistent). The system calls are one step; a futex wait compares and falls asleep in one.
 *
 * Checked: a held slot shows the range that it is held for, for the life of the hold; nobody maps or retires what is held; a
 * range has one slot at most; nobody sleeps for ever (an invalid end state, for Spin); counts are back at 1 at the end.
 *
 * What was wrong once, or could be, as variants that Spin must find fault with:
 *   FIRST            the first design: a thread that finds no slot registers as a waiter after its last look
 *   QUIET            who brings a slot back wakes, but does not move `freed` on
 *   ONE_READ         the association is not read again after the hold
 *   NO_SETTLING      who finishes a mapping tells nobody
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef THREADS
#define THREADS 3
#endif
#ifndef RANGES
#define RANGES 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define NONE 15

byte count[SLOTS];	/* 0 owned, 1 free, n: n - 1 holds */
byte key[SLOTS];	/* the range that a slot has */
byte shows[SLOTS];	/* what its mapping shows */
byte table[RANGES];	/* slot + 1; 0 none */
byte waiting, freed, settling;
bool sleeps[THREADS];	/* on `freed` */
byte settles[THREADS];	/* on the count of slot - 1 */
byte ended;

inline wake_one()
{
	atomic {
		victim = 0;
		do
		:: victim < THREADS && !sleeps[victim] -> victim++
		:: else -> break
		od;
		if
		:: victim < THREADS -> sleeps[victim] = false
		:: else
		fi;
		victim = 0;
	}
}

inline slot_freed()
{
#ifndef QUIET
	freed++;
#endif
	wake_one();
}

/* From 0 to n. */
inline disown(n)
{
	count[s] = count[s] + n;
#ifndef NO_SETTLING
	if
	:: settling > 0 ->
		atomic {
			victim = 0;
			do
			:: victim < THREADS ->
				if
				:: settles[victim] == s + 1 -> settles[victim] = 0
				:: else
				fi;
				victim++
			:: else -> break
			od;
			victim = 0;
		}
	:: else
	fi;
#endif
}

inline put()
{
	atomic {
		assert(count[s] >= 2);
		count[s]--;
		last = (count[s] == 1);
	}
	if
	:: last && waiting > 0 -> slot_freed()
	:: else
	fi;
	last = false;
}

/* Owns a free slot, if it comes by one: s, else NONE. */
inline scan()
{
	s = 0;
	do
	:: s < SLOTS ->
		atomic {
			if
			:: count[s] == 1 -> count[s] = 0; break
			:: else -> s++
			fi
		}
	:: else -> s = NONE; break
	od
}

proctype thread(byte me)
{
	byte round = 0, range = 0, s = NONE, found = 0, seen = 0, victim = 0;
	bool last = false, slept = false;

	do
	:: round == ROUNDS -> break
	:: else ->
		round++;
		atomic {
			if
			:: range = 0
			:: range = 1
			:: range = RANGES - 1
			fi
		};
look:
		found = table[range];
		if
		:: found == 0 -> goto miss
		:: else -> s = found - 1; found = 0
		fi;
		/* slot_pin: increment unless zero */
		atomic {
			if
			:: count[s] > 0 -> count[s]++; last = true
			:: else -> last = false
			fi
		}
		if
		:: last -> last = false
		:: else -> goto settle
		fi;
#ifndef ONE_READ
		if
		:: key[s] != range -> put(); s = NONE; goto look
		:: else
		fi;
#endif
		goto held;
settle:
		settling++;
		/* futex_wait on the count */
		atomic {
			if
			:: count[s] == 0 -> settles[me] = s + 1
			:: else
			fi
		};
		settles[me] == 0;
		settling--;
		s = NONE;
		goto look;
miss:
		scan();
		if
		:: s != NONE -> goto owned
		:: else
		fi;
#ifndef FIRST
		waiting++;
#endif
again:
		seen = freed;
		found = table[range];
		if
		:: found != 0 ->
			found = 0;
#ifdef FIRST
			goto look;
#endif
			waiting--;
			seen = 0;
			if
			:: slept -> slept = false; slot_freed()
			:: else
			fi;
			goto look
		:: else
		fi;
		scan();
		if
		:: s != NONE ->
#ifndef FIRST
			waiting--;
#endif
			slept = false;
			seen = 0;
			goto owned
		:: else
		fi;
#ifdef FIRST
		waiting++;
		sleeps[me] = true;
		!sleeps[me];
		waiting--;
		goto again;
#endif
		/* futex_wait on `freed` */
		atomic {
			if
			:: freed == seen -> sleeps[me] = true
			:: else
			fi
		};
		!sleeps[me];
		seen = 0;
		slept = true;
		goto again;
owned:
		/* slots_retire */
		if
		:: key[s] != NONE ->
			found = key[s];
			key[s] = NONE;
			table[found] = 0;
			found = 0;
			assert(count[s] == 0);
			shows[s] = NONE
		:: else
		fi;
		/* assoc_publish */
		atomic {
			if
			:: table[range] == 0 -> table[range] = s + 1; last = true
			:: else -> last = false
			fi
		}
		if
		:: !last ->
			/* The race is lost. */
			disown(1);
			if
			:: waiting > 0 -> slot_freed()
			:: else
			fi;
			s = NONE;
			goto look
		:: else -> last = false
		fi;
		key[s] = range;
		assert(count[s] == 0);
		shows[s] = range;
		disown(2);
held:
		assert(shows[s] == range);
		assert(table[range] == s + 1);
		skip;
		assert(shows[s] == range);
		put();
		s = NONE
	od;
	atomic {
		ended++;
		if
		:: ended == THREADS ->
			s = 0;
			do
			:: s < SLOTS -> assert(count[s] == 1); s++
			:: else -> break
			od
		:: else
		fi
	}
}

init {
	byte i = 0;

	atomic {
		do
		:: i < SLOTS -> count[i] = 1; key[i] = NONE; shows[i] = NONE; i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < THREADS -> run thread(i); i++
		:: else -> break
		od
	}
}
