/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hand-over to a child of fork (src/fork.h): a forking thread, a handler, the background thread, the child, and somebody who may
 * kill the parent at any moment (KILL).
 *
 * One page of the child is absent. It is touched before the child takes over (libc's part of fork), or only after. Checked:
 *   - nobody gives the child a page while it serves itself
 *   - a child that cannot take over goes on as plain memory when everything was given, and not before; nobody has its userfaultfd then, or
 *     will make use of it; one that was answered that it takes over, and fails then, ends
 *   - the child goes on only when it knows of what it was given
 *   - a touch never reads zeroes, but where the parent was killed between the event and the message, and then the child ends
 *     before its program goes on
 *   - the parent comes back from fork, and what it holds is let go, whether the fork has failed or not (FAIL)
 *
 * Variants that must fail: EARLY, the forking thread takes a fork for failed as soon as it has returned and nobody was told; LATE,
 * the background thread answers before it has stopped serving; HASTY, it tells a child that has asked for everything so before that is there; SILENT,
 * it takes a child that has asked for everything for one that has gone.
 */
mtype = { none, ready, returned, sending, born, failed, over };
mtype stage = none;

bool event;		/* a fork that the kernel waits with */
bool forked;		/* the child runs */
bool fork_returned;	/* the forking thread has its answer */
bool alive = true;	/* the parent */
byte descriptors;	/* of the child's userfaultfd, wherever */
bool message;		/* the userfaultfd and what else, in the socket */
bool asked, answered;	/* TAKE, and what the child is told */
bool asked_all;		/* PLAIN: it cannot serve itself */
bool answered_all;	/* and was told that it has everything, by its doorbell as well */
bool hung_up;		/* the parent has closed its end of the socket */
bool child_end = true;	/* somebody has the child's end: the forking thread's copy of it */
bool child_has;		/* the child's own */
bool child_gone;
bool fault;		/* the child waits for its page */
bool given;		/* the page is there */
bool known;		/* and the child was told */
bool serves;		/* the background thread serves the child */
bool closed;		/* the parent has closed its descriptor */
bool child_serves;	/* the child does */
bool zeroes;		/* a touch has read them */
bool held;		/* reclaim is held */

/* A touch of the page: as long as somebody has the userfaultfd it waits for somebody to serve it. */
inline touch() {
	if
	:: given -> skip
	:: else ->
		atomic { fault = true }
		/* With its parent dead it waits for ever: an end that is as it should be. */
#ifdef KILL
end_waits:
#endif
		if
		:: given -> skip
		:: !given && descriptors == 0 -> zeroes = true
		fi
		fault = false
	fi
}

/* What is the parent's ends with it, between any two steps. */
active proctype forking() {
	{
		held = true; stage = ready;
#ifndef FAIL
		event = true;
		!event;
#endif
		fork_returned = true;
		child_end = false;
		atomic { if :: stage == ready -> stage = returned :: else fi };
#ifdef EARLY
		atomic { if :: stage == returned -> stage = failed :: else fi };
#endif
		stage == over;
		assert(!held)
	} unless { !alive }
}

active proctype handler() {
	{
		if
		:: atomic { event -> event = false; descriptors++; forked = true; child_has = true };
		   /* The kernel lets the forking thread go, and the child run. */
		   atomic {
			if
			:: stage == ready || stage == returned -> stage = sending
			/* As if nobody had said that there would be a child. */
			:: else -> assert(false)
			fi
		   };
		   atomic { message = true; descriptors++ };
		   stage = born
		:: stage == over
		fi
	} unless { !alive }
}

active proctype background() {
	{
		stage != none;
		if
		:: stage == born -> serves = true
		:: stage == failed
		:: atomic { stage == returned && !child_end && !child_has && !event -> stage = failed }
		fi;
		do
		:: !serves -> break
		:: atomic { serves && fault && !given && !asked -> assert(!child_serves); given = true }
		:: serves && asked ->
#ifdef LATE
			atomic { known = given; answered = true };
#endif
			atomic { serves = false; closed = true; descriptors-- };
#ifndef LATE
			atomic { known = given; answered = true }
#endif
		:: serves && asked_all && !asked ->
#ifdef HASTY
			answered_all = true;
			atomic { given = true };
#else
#ifndef SILENT
			atomic { given = true };
			answered_all = true;
#endif
#endif
			atomic { serves = false; closed = true; descriptors-- }
		:: atomic { serves && child_gone -> serves = false; closed = true; descriptors-- }
		od;
		hung_up = true;
		held = false;
		stage = over
	} unless { !alive }
}

active proctype child() {
	bool mine = false;

	(forked || (fork_returned && !forked && stage == over) || !alive);
	if
	:: !forked -> goto done
	:: else
	fi;
	/* libc's part of fork. */
	if
	:: true -> touch()
	:: true
	fi;
	/* weir_after_fork_child. */
	do
	:: atomic { message -> message = false; mine = true } -> break
	:: !message && !alive -> goto ended
	od;
	/* It takes over, or has no room for threads, or for the descriptor, which is closed then. */
	if
	:: true
	:: atomic { mine = false; descriptors-- }; goto plain
	fi;
	asked = true;
	do
	:: answered -> break
	:: !answered && !alive -> goto ended
	od;
	/* Too late for anything else: what it sends now nobody hears. */
	if
	:: true
	:: asked_all = true; (hung_up || !alive) -> goto ended
	fi;
	assert(!serves);
	assert(!zeroes);
	assert(!given || known);
	child_serves = true;
	/* The program goes on. */
	if
	:: !given -> given = true; known = true
	:: else
	fi;
	assert(descriptors >= 1);
	goto done;
plain:	asked_all = true;
	do
	:: answered_all -> break
	:: !answered_all && (hung_up || !alive) ->
		/* It is ended with a message, which only the parent's death excuses. */
		assert(!alive);
		goto ended
	od;
	/* The program goes on, without anybody who would serve it. */
	assert(given && !zeroes);
	touch();
	assert(!zeroes);
	goto done;
ended:	child_gone = true;
	atomic { if :: mine -> descriptors-- :: else fi };
	child_has = false;
done:	skip
}

#ifdef KILL
/* All that is the parent's ends at once, its descriptors with it. */
active proctype killer() {
	atomic {
		alive = false;
		if
		:: forked && !closed -> descriptors--
		:: else
		fi
	}
}
#endif
