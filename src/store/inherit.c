/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that a fork leaves to two processes: see filestore.h. */
#include <errno.h>
#include <string.h>

#include "store/filestore.h"

/* Has the store written anything itself? */
static bool own_used(const struct filestore *store)
{
	return store->file.fd >= 0 && store->size > store->base;
}

int filestore_pass(const struct filestore *store, int *fds)
{
	int n = 0;

	if (store->inherited + own_used(store) > FILE_INHERITED_MAX)
		return -EMFILE;
	for (unsigned i = 0; i < store->inherited; i++) {
		fds[n++] = store->inheritance[i].file.fd;
		fds[n++] = store->inheritance[i].lease;
	}
	if (own_used(store))
		fds[n++] = store->file.fd;
	return n;
}

void filestore_keep(struct filestore *store)
{
	lock_acquire(&store->lock);
	for (uint32_t word = 0; word < DIV_UP(store->size, 64); word++) {
		const uint64_t kept = filestore_taken(store, word);

		/* Most of the table stays untouched. */
		if (store->kept[word] != kept)
			store->kept[word] = kept;
	}
	store->keepers++;
	lock_release(&store->lock);
}

void filestore_unkeep(struct filestore *store)
{
	lock_acquire(&store->lock);
	store->keepers--;
	lock_release(&store->lock);
}

bool filestore_after_fork(struct filestore *store, const int *fds, int lease)
{
	/* As filestore_pass found it. */
	const bool own = fds && own_used(store);

	lock_init(&store->lock, RANK_FILE, "file store");
	store->keepers = 0;
	store->full_until_ns = 0;
	store->told = true;
	/* The parent's rings are not mapped here (ring_open), nor are their descriptors. */
	memset(&store->write_ring, 0, sizeof(store->write_ring));
	memset(store->read_ring, 0, sizeof(store->read_ring));
	memset(store->read_ring_tried, 0, sizeof(store->read_ring_tried));
	store->write_ring_tried = false;
	store_relaxed(&store->rings_taken, 0);
	if (!fds) {
		store->inherited = 0;
		store->size = 0;
	}
	for (unsigned i = 0; i < store->inherited; i++) {
		store->inheritance[i].file.fd = *fds++;
		store->inheritance[i].lease = *fds++;
	}
	if (own) {
		struct file_inherited *last = &store->inheritance[store->inherited++];

		*last = (struct file_inherited){store->file, store->base, store->size, lease};
		last->file.fd = *fds;
	}
	store->base = store->size;
	store->cursor = store->size;
	store->file.fd = -1;
	return own;
}
