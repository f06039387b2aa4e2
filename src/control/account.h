/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An account: the charge of a page that several can hold, such as a page of a file, in its page cache and mapped by any
 * number of regions. The first holder charges; later ones only count; the last one that lets go uncharges.
 *
 *    31       4 3     0
 *   ┌──────────┬───────┐      0 holders: nothing is charged, and the slot means nothing.
 *   │ holders  │ owner │      owner: a slot of the table of owners (control/owners.h).
 *   └──────────┴───────┘
 *
 *            hold: charge, then compare-and-swap              hold
 *      0 ────────────────────────────────────────▶ 1 holder ───────▶ n holders
 *      ▲                                              │ ▲              │
 *      └──────────── release: the last ───────────────┘ └── release ───┘
 *
 * One word, so there is nothing to allocate and no reference to count wrongly: of two that charge at once, one finds
 * the word changed, drops the charge that it made and counts on the winner's. Who lets go last takes the word to 0
 * first and uncharges then, so one that revives the page meanwhile charges anew.
 *
 * The caller is one that container_delete waits for (control/owners.h). Orders: who holds a page sees what the one
 * before did to it by other means (the page's busy bit); the word itself needs none.
 */
#ifndef WEIR_CONTROL_ACCOUNT_H
#define WEIR_CONTROL_ACCOUNT_H

#include <errno.h>

#include "control/owners.h"

typedef _Atomic uint32_t account_t;
enum { ACCOUNT_ONE = OWNERS_MAX };

static inline unsigned account_holders(account_t *account)
{
	return load_relaxed(account) / ACCOUNT_ONE;
}

/* One holder more, if there is one already. */
static inline bool account_join(account_t *account)
{
	uint32_t word = load_relaxed(account);

	while (word >= ACCOUNT_ONE) {
		if (cas_relaxed(account, &word, word + ACCOUNT_ONE))
			return true;
	}
	return false;
}

/* The first holder, whose container has been charged by the caller. Nobody else can hold it at the moment. */
static inline void account_begin(account_t *account, unsigned slot)
{
	assert_always(exchange_relaxed(account, ACCOUNT_ONE | slot) < ACCOUNT_ONE);
}

/* Holds a page of bytes; if it is the first holder, the container in that slot pays. force: over a limit if need be. 0, or
 * what container_charge said: nothing is held or charged then. */
static inline int account_hold(account_t *account, const struct owners *owners, unsigned slot,
			       enum charge_kind kind, uint64_t bytes, bool force)
{
	while (!account_join(account)) {
		struct weir_container *container = owners_get(owners, slot);
		uint32_t none = 0;

		if (force) {
			container_force(container, kind, bytes);
		} else {
			int err = container_charge(container, kind, bytes);

			if (err)
				return err;
		}
		if (cas_relaxed(account, &none, ACCOUNT_ONE | slot))
			return 0;
		/* Somebody was faster: its charge counts. */
		container_uncharge(container, kind, bytes);
	}
	return 0;
}

/* True: it was the last holder, and the charge is gone. */
static inline bool account_release(account_t *account, const struct owners *owners,
				   enum charge_kind kind, uint64_t bytes)
{
	uint32_t word = load_relaxed(account), left;

	do {
		assert_always(word >= ACCOUNT_ONE);
		left = word - ACCOUNT_ONE;
		left = left < ACCOUNT_ONE ? 0 : left;
	} while (!cas_relaxed(account, &word, left));
	if (!left)
		container_uncharge(owners_get(owners, word % OWNERS_MAX), kind, bytes);
	return !left;
}

#endif
