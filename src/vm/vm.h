/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regions, and the life of a page.
 *
 * A region is a range of addresses with one page word a page (vm/page.h). pagein() loads one page, and is where
 * faults end; region_discard() forgets pages. reclaim/ moves pages out through page_lock and page_unlock.
 *
 * Letters: (A) atomic, (C) constant after creation, (B) the page's busy bit, (I) the instance's lock.
 */
#ifndef WEIR_VM_VM_H
#define WEIR_VM_VM_H

#include "base/hist.h"
#include "base/waitq.h"
#include "control/container.h"
#include "os/mem.h"
#include "os/uffd.h"
#include "store/compressed.h"
#include "store/store.h"
#include "control/owners.h"
#include "vm/page.h"
#include "vm/share.h"
#include "weir/region.h"

enum {
	REGIONS_MAX = 16384,
	FILES_MAX = 64,
	CHUNK_SHIFT = 9, /* pages that share one count of populated pages */
	RUN_MAX = 64,	 /* pages that one fault may load or release */
	RUN_MEMORY =
		16, /* from memory: 4 pages get most of it, 64 little more than 16 (measured) */
	STREAMS = 32,
	ADVISED_MAX = 64,
};

struct region {
	char *base;		     /* (C) */
	_Atomic uint32_t pages;	     /* (A) written under (I) */
	uint32_t room;		     /* (C) pages that there are addresses and tables for */
	uint32_t slot;		     /* (C) its place in the list */
	page_word_t *word;	     /* (A) */
	_Atomic uint32_t *populated; /* (A) per chunk: pages that are not NONE */
	_Atomic uint8_t *access;     /* (A) per chunk: enum weir_region_advice */
	_Atomic uint32_t top;	     /* (A) no page from here on was ever populated */
	_Atomic(_Atomic uint64_t *)
		turned; /* (A) a bit a page: page_readable; NULL: all can be read */
	bool readable;	/* (C) once there is turned: what a page is whose bit is 0 */
	_Atomic(_Atomic uint64_t *) wiped; /* (A) a bit a page: region_wipe; NULL: none */
	/* (A) written by the background thread: words do not tell yet what is in memory (region_register). Who discards waits. */
	_Atomic bool adopting;
	struct owners owners;	  /* of a file region only current: a slot of the file's table */
	struct file_object *file; /* (C) vm/file.h; NULL: anonymous */
	int uffd;		  /* (C) whose faults it has */
	uint8_t cluster;  /* (C) pages that a fault out of any stream brings; 0: what is usual */
	bool signal;	  /* (C) threads serve their own faults */
	bool hidden;	  /* by the lock of the advised: it is going away */
	bool mapped_here; /* (C) until region_unregister: the range is ours to unmap */
};

/* Counted with relaxed adds; read at any time. */
struct vm_counters {
	_Atomic uint64_t faults; /* messages served */
	_Atomic uint64_t
		soft; /* no load: a write to a clean page, or somebody else had loaded it */
	_Atomic uint64_t first;	      /* first touches */
	_Atomic uint64_t compressed;  /* loads from the compressed store, same-filled pages too */
	_Atomic uint64_t stored;      /* loads from the file */
	_Atomic uint64_t parked;      /* met a busy page */
	_Atomic uint64_t ahead;	      /* pages that came with a neighbour's fault */
	_Atomic uint64_t refaults;    /* loads within one limit's worth of evictions */
	_Atomic uint64_t same_filled; /* pages kept as a word */
	_Atomic uint64_t packed_in, packed_out; /* bytes before and after compression */
	_Atomic uint64_t moved_out;		/* pages dropped */
	_Atomic uint64_t written;		/* pages written to the file */
	_Atomic uint64_t write_failed;		/* pages that a failed write left in memory */
	_Atomic uint64_t poisoned;
	_Atomic uint64_t vanished;    /* pages that somebody dropped behind weir's back */
	_Atomic uint64_t fork_loaded; /* pages brought in for a fork */
};

/* Are refaults concentrated on pages that had refaulted before, rather than on others? Then credits pay; under uniform access they only
 * scatter the victims. Counted over windows of loads; races lose a count and nothing else. */
struct credit_control {
	_Atomic uint32_t loads, quick, graded, graded_quick; /* (A) */
	_Atomic bool on;				     /* (A) */
};

/*
 * Is a page that is loaded for a read going to be written? Then it is installed writable, which spares a fault, but has it
 * compressed again in any case. Pages that were rewritten before are taken to be, others are not, until loads tell otherwise: of
 * those that are taken to be written one in PROBE_EVERY is protected all the same. Counted as above, for both sorts of pages.
 */
struct rewrite_control {
	_Atomic uint32_t loads, probes, written; /* (A) probes: loads that were protected */
	_Atomic bool contrary;			 /* (A) to what is said above */
};

/* How many loads from the file continue a stream. Counted as above. */
struct file_control {
	_Atomic uint32_t loads, in_stream; /* (A) */
	_Atomic bool random;		   /* (A) hardly any */
};
/* What weir knows of a tenant besides what it is charged: behind container->above. */
struct clock_hand {
	uint32_t region, page;
};
struct tenant {
	_Atomic uint64_t evictions; /* (A) pages dropped: the clock of stamps */
	struct credit_control credit;
	struct rewrite_control
		rewrite[2]; /* of pages that were not rewritten before, and of those that were */
	struct clock_hand hand; /* of reclaim's clock; by the thread that fills a job */
	_Atomic uint32_t spare; /* (A) pages that the next job may take; 0: as many as jobs do */
	_Atomic uint32_t fruitless; /* (A) jobs in a row that got nothing out of it */
	/* (A) Its own copies may take so much, whatever their share, since copying makes no room: reclaim_judge. 0: no such bound. */
	_Atomic uint64_t cap;
	/* By the background thread: pages younger than 256 (half a limit's worth of evictions) and this stay in memory. */
	int writeback_shift;
	struct share_control share; /* vm/share.h */
	uint64_t
		reserved; /* by the background thread: charged for pages that are to come back from a store (reclaim/removal.c) */
};
_Static_assert(sizeof(struct tenant) <= sizeof(((struct weir_container *)0)->above),
	       "container.h keeps so much for the layers above");

/* A reader that goes up or down page by page. Racy on purpose: a lost update costs one readahead. */
struct stream {
	_Atomic uint64_t next; /* (A) page number expected, 0 none */
	_Atomic int32_t step;  /* (A) +window, -window, or 0: direction not known yet */
};

/* Ranges of pages that somebody said something of, the oldest first: vm/advise.c. */
struct advised {
	struct region *region;
	uint32_t first, end;
};
struct advised_list {
	_Atomic uint32_t count; /* (A) written under the lock */
	struct advised at[ADVISED_MAX];
};

struct region_index; /* vm/find.c */

struct pager;
struct vm {
	int uffd;	 /* (C) in weir's own descriptor table; -1: no region in thread mode */
	int signal_uffd; /* (C) the same number in the program's table, too; -1: none in signal mode */
	bool can_poison;	    /* (C) */
	bool can_minor;		    /* (C) minor faults of shared memory */
	bool can_track;		    /* (C) and writes to it are noticed */
	struct mem_dropper dropper; /* (C) */
	int self_mem; /* (C) /proc/self/mem in weir's own table; -1: pages that cannot be read stay */
	unsigned kmap_slots;		  /* (C) windows on a file; 0: it is mapped */
	unsigned zstd_level;		  /* (C) that pages are packed with; 0: LZ4 */
	struct weir_container *root;	  /* (C) */
	struct compressed *memory;	  /* (C) */
	struct store *_Atomic store;	  /* (A) written by the background thread */
	_Atomic(struct region *) *region; /* [REGIONS_MAX] (I) to write, (A) to read */
	_Atomic uint32_t regions;	  /* (A) slots in use, holes included */
	struct region_index *index;	  /* (C) the same by address */
	struct lock advised_lock;	  /* RANK_ADVISED: both lists */
	struct advised_list cold, wanted; /* to leave first; to be loaded */
	_Atomic(struct file_object *) file_object[FILES_MAX]; /* (I) to write, (A) to read */
	struct crew *crew;			/* (C) once there is an object; vm/file_crew.c */
	void (*crew_begin)(struct pager *self); /* (C) each of its threads calls it first */
	void (*quiesce)(void *data); /* (C) nobody has a file object that is hidden any more */
	void *quiesce_data;
	_Atomic uint64_t
		memory_share; /* (A) bytes that compressed objects of the root may take at most */
	bool share_fixed; /* (C) and always may, as tenants three quarters of what they have: vm/share.h */
	_Atomic uint32_t hold; /* (A) forks and pins under way: nothing is dropped */
	/* (A) forks under way whose child is to find all copies: copies that pages no longer need are kept (page_copy_leave) */
	_Atomic uint32_t forking;
	_Atomic bool wake_all; /* (A) a thread without the descriptor freed a parked page */
	/* (A) threads that may just be giving a page that a job reads its contents: page_revive */
	_Atomic uint32_t reviving;
	struct waitq attention; /* the background thread of reclaim/ sleeps here */
	/* (A) handlers that sleep for a tenant above its high, and (C) how many may: one reads on. */
	_Atomic uint32_t asleep;
	uint32_t asleep_most;
	struct file_control file_control;
	struct stream stream[STREAMS];
	_Atomic uint32_t stream_hand, proved_hand; /* (A) */
	struct vm_counters count;
};

/* What a thread needs to load pages; one a thread, allocated before it starts. */
struct pager {
	_Alignas(4096) char run[RUN_MAX][4096];	      /* contents on their way in */
	_Alignas(4096) char stored[STORE_READ_BYTES]; /* objects as they come from the store */
	struct store_reader reader;
	struct packer packer;
	/* Called before a load that may block: another handler takes over reading. May be NULL. */
	void (*before_block)(void *data);
	void *data;
	int tid;			  /* of the thread whose fault is served */
	uint64_t ended_ns;		  /* when a stall of it ended; 0: there was none */
	uint64_t began_ns;		  /* when that fault was read; 0: not known */
	struct weir_container *container; /* whose region that fault was in */
	struct weir_container *stalled;	  /* a stall of it is under way */
	bool major;			  /* the fault brings something back */
	/* Loads that the fault was, for the share to follow; 0: none, or nobody wants to know. */
	uint32_t loads;
	enum share_kind loaded;
	/* (C) Of a thread of the program, whose table of descriptors is not ours to rely on: what cannot be read or
	 * installed there is for another thread to try, and condemns no page. */
	bool borrowed;
};

enum fault_access { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_WP = 2 };
enum pagein_result {
	PAGEIN_DONE,
	PAGEIN_PARKED,	  /* the page is busy; whoever clears the bit wakes the page */
	PAGEIN_RETRY,	  /* no memory: woken to try again */
	PAGEIN_GONE,	  /* the range is going away */
	PAGEIN_ELSEWHERE, /* a borrowed table has not what it takes: nothing was changed */
};

int vm_init(struct vm *vm, struct weir_container *root, struct compressed *memory,
	    struct store *store);
void vm_destroy(struct vm *vm);
/* The region at an address, or NULL. Never waits. For a thread that the one who destroys a region waits for: it is there
 * until that thread says that it is through. */
struct region *vm_find(struct vm *vm, uintptr_t address);
/* find.c: the index, under the instance's lock. How many there are; one comes, one goes. */
int index_init(struct vm *vm);
void index_destroy(struct vm *vm);
uint32_t index_count(const struct vm *vm);
void index_add(struct vm *vm, struct region *region);
void index_remove(struct vm *vm, const struct region *region);
/* Tells the background thread to look. */
void vm_attention(struct vm *vm);
/* The stamp of now: evictions from the container in units of a 512th of its limit. */
unsigned vm_clock(const struct weir_container *container);
/* The same, so many evictions from now. */
unsigned vm_clock_after(const struct weir_container *container, unsigned evictions);
/* By that clock, how long ago the page was dropped. */
unsigned vm_age(const struct weir_container *container, uint64_t w);
/* So many of its pages were dropped since this one was; a little less than 64 limits' worth at the most. */
uint64_t vm_away(const struct weir_container *container, uint64_t w);
/* Has it been away for less than one limit's worth of evictions? With more memory it would not have left: a refault. */
bool vm_refault(const struct weir_container *container, uint64_t w);

/* Loads one page and wakes who waits for it. Never sleeps on a busy page. */
enum pagein_result pagein(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
			  enum fault_access access);
/* Loads every absent page of every region, over the limit. 0 or -EIO: a page is lost (poisoned). */
int vm_bring_in(struct vm *vm, struct pager *self);

/* Loads those of the pages that are absent, which nobody waits for, as far as the container's limit has room. How many pages
 * were looked at: fewer than count where it has none. */
uint32_t pagein_ahead(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		      uint32_t count);

struct region_options {
	bool signal;	    /* threads serve their own faults */
	uint8_t access;	    /* enum weir_region_advice */
	uint8_t cluster;    /* as in struct region */
	uint64_t max_bytes; /* room to grow; 0: none */
};
/* Creates a region of the container over fresh address space (addr NULL) or over memory that is there. options NULL: none.
 * 0, -EINVAL, -ENOMEM, -ENOSPC (REGIONS_MAX). The caller holds the instance's lock. */
int region_create(struct vm *vm, struct weir_container *container, void *addr, size_t bytes,
		  const struct region_options *options, struct region **region);
/* Bytes of its tables that have memory. */
uint64_t region_overhead(const struct region *region);
/* For vm/file.c: a place in the list, or -ENOSPC; and a region that is complete goes there. */
int region_place(struct vm *vm);
void region_publish(struct vm *vm, int place, struct region *region);
/* A fault of the container is a stall from its beginning to its end: it finds no room, is throttled, or loads a refault. */
void pager_stall(struct pager *self, struct weir_container *container);
/* A fault of the container loads something. */
void pager_load(struct pager *self, struct weir_container *container, bool refault);
/* Nothing more is to be done for the fault. */
void pager_end(struct pager *self);
/* From a thread that has the userfaultfd: from now on the region faults. Pages that are in memory are adopted. */
int region_register(struct region *region);
/* Destroying: hide it, wait until no handler and no job has it any more, unregister, then destroy. */
void region_hide(struct vm *vm, struct region *region);
/* Ends faults on it, and wakes who waits for one: a created region is gone from then on, an adopted one plain memory. */
void region_unregister(struct region *region);
/* One over a file: file_region_close. */
void region_destroy(struct vm *vm, struct region *region);
/*
 * The region has so many pages from now on, more than it had; under the instance's lock, any thread. -EINVAL: fewer, or a
 * region that cannot; -ENOMEM: there is no room, or the system has none.
 */
int region_grow(struct region *region, uint32_t pages);
/*
 * Shrinking: pages is set to fewer, whoever may still work on those beyond is waited for, then this forgets and hides them: their
 * memory, copies and charges are free. old: how many it had. From a thread with the userfaultfd. -EBUSY: one of them is
 * pinned, and they are all as before; -ENOMEM: they are forgotten, and cannot be hidden. Then they must be the region's again.
 */
int region_cut_off(struct vm *vm, struct pager *self, struct region *region, uint32_t old);
/*
 * Counts pages as populated, before they are. The child of a fork has a copy of these tables that is taken while handlers go on:
 * of what one thread stores, it has all up to some point, and nothing after it. It looks for busy bits where pages are
 * counted, so a page is counted before its bit is taken, and for as long as it is held. That is for who may meet a page in NONE
 * while there is a fork: handlers.
 */
void region_populate(struct region *region, uint32_t page, uint32_t count);
/* page_lock for a page that may be in NONE. */
bool page_lock_counted(struct region *region, uint32_t page, uint64_t *w);
/* And the end of such a hold with the word as it was. */
void page_unlock_uncounted(struct vm *vm, struct region *region, uint32_t page, uint64_t w);
/* Contents gone: reads as zeroes, memory and copies are free at once. Any thread of the process, also while others
 * fault on the range. self NULL: a thread without the userfaultfd. -EBUSY: a page is pinned; another error: the kernel's (mlock). Then
 * what lies before that page's chunk is gone, and what lies behind it is as it was. */
int region_discard(struct vm *vm, struct pager *self, struct region *region, uint32_t page,
		   uint32_t count);
/* The same, also of pages that are pinned, which they are no longer. */
int region_discard_pinned(struct vm *vm, struct region *region, uint32_t page, uint32_t count);

/* --- in the child of a fork: child.c --- */

void vm_after_fork(struct vm *vm);
/* A page that was brought, or made writable, before the child served itself. */
void page_after_fork(struct region *region, uint32_t page);
/* A page whose copy the parent could not read: a touch is SIGBUS, as it is where pages are poisoned otherwise. Before region_after_fork. */
void page_lost_after_fork(struct vm *vm, struct region *region, uint32_t page);
/* Makes all words right, and charges what they say to the owners of their pages. all: every page that had a copy was brought, every
 * other made writable. */
void region_after_fork(struct vm *vm, struct region *region, bool all);

/* vm/advise.c. Any thread; for regions that are not over a file. -EINVAL: no such advice. DONTNEED: as region_discard. */
int region_advise(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		  enum weir_region_advice advice);
/* How a page is used: NORMAL, SEQUENTIAL or RANDOM. */
static inline enum weir_region_advice region_access(const struct region *region, uint32_t page)
{
	return (enum weir_region_advice)load_relaxed(&region->access[page >> CHUNK_SHIFT]);
}
/* A reader of pages that are used SEQUENTIALly has come to this one: what lies well behind it leaves first. */
void region_pass(struct vm *vm, struct region *region, uint32_t page);
/* Cuts at most so many pages off the oldest range that is of a container's region, NULL: of any. False: there is none. */
bool advised_cut(struct vm *vm, struct advised_list *list, const struct weir_container *container,
		 uint32_t most, struct advised *piece);
/* What of a piece is from that page on goes back to where it was cut off. */
void advised_again(struct vm *vm, struct advised_list *list, const struct advised *piece,
		   uint32_t from);
/* The region is going away: its ranges are forgotten, and none is added any more. */
void advised_forget(struct vm *vm, struct region *region);

/*
 * Pages that the program lets nobody read, weir's threads among them (PROT_NONE). Each page has a bit for it from region_track on, which
 * comes before anybody touches the region; `readable` is what all of them are then.
 *
 * region_protect: how a range is from now on. To take access away it comes before mprotect: nobody reads the pages where they
 * stand any more when it returns. To give access it comes after.
 */
int region_track(struct region *region, bool readable);
void region_protect(struct vm *vm, struct region *region, uint32_t page, uint32_t count,
		    bool readable);
/*
 * Pages that a child of fork has as zeroes (MADV_WIPEONFORK), from now on or no more: nobody gives it their contents. What the kernel
 * copies is the caller's to see to. 0 or -ENOMEM. page_wiped: is it one? region_wipe_child: in the child, when its words are right.
 */
int region_wipe(struct region *region, uint32_t page, uint32_t count, bool wiped);
bool page_wiped(const struct region *region, uint32_t page);
void region_wipe_child(struct vm *vm, struct pager *self, struct region *region);
/* Where a page that is in memory can be read, under its busy bit: in its place, or in the buffer. NULL: it cannot be. */
const void *page_source(struct vm *vm, const struct region *region, uint32_t page, void *buffer);
/*
 * A job reads a page where it stands, under its busy bit; from begin on nothing in the word names a copy. It may have vanished (a bare
 * madvise), or vanish now. Then to read it is a fault of weir's own, in the middle of what every fault on the page waits for.
 * So the word says that it is being read, and who serves that fault, whoever's it is, gives the page the zeroes that
 * it means:
 *
 *      who reads, X                             who serves a fault on it: a handler; in signal mode X itself
 *      begin: READING                           page_revive: one more is reviving
 *        reads, and may fault ────────────────▶   still READING? zeroes are installed ─▶ X goes on; VANISHED
 *      end:   no longer READING                   one less
 *        waits until nobody is reviving
 *        VANISHED?
 *
 * X waits, since the zeroes of one who comes late would be those of a page that has left by then. A page that had vanished is not
 * write-protected any more, and what X read is perhaps neither the old nor the new: end says false, and the page is dirty. A handler that
 * faults may be the only one that reads faults, so it asks before whether the page is there.
 */
void page_read_begin(struct vm *vm, struct pager *self, struct region *region, uint32_t page);
bool page_read_end(struct vm *vm, struct region *region, uint32_t page);
/* True: it was being read, and is there, or the fault is to come again. */
bool page_revive(struct vm *vm, struct region *region, uint32_t page);
/* Contents gone without a look at the memory: something else has been mapped there. */
void region_forget(struct vm *vm, struct region *region, uint32_t page, uint32_t count);
/*
 * Contents of pages to others of the same region, which lose theirs, and which nobody uses yet; the two do not overlap. At most
 * RUN_MAX pages. By a thread with the userfaultfd. 0, or -errno: the target is not mapped any more, and what could not be
 * moved is gone.
 */
int region_move(struct vm *vm, struct pager *self, struct region *region, uint32_t from,
		uint32_t to, uint32_t count);

/* A slot of the region's table for a container: its own, or one that no page is charged to. -ENOSPC. */
int region_owner_slot(const struct region *region, const struct weir_container *container);
/* Pages and copies to the current owner. -ENOMEM: some do not fit there, and stay. From a thread with the userfaultfd. */
int region_transfer(struct vm *vm, struct region *region);
/* The copy of a word is charged to that slot's container from now on; over its limits if need be. The caller holds the busy bit. */
void copy_transfer(struct vm *vm, const struct region *region, uint64_t w, unsigned slot);
/* Adds what the words of a container's pages, and of those below it, tell. */
void region_stat(struct vm *vm, const struct region *region, const struct weir_container *container,
		 struct weir_container_stat *stat);
/* The calling thread is one of the program that serves its own fault: initial-exec, no first use that would allocate. */
extern _Thread_local bool vm_borrowed __attribute__((tls_model("initial-exec")));
/* The calling thread is the background thread in reclaim_run, who wakes for those that have no userfaultfd. */
extern _Thread_local bool vm_wakes __attribute__((tls_model("initial-exec")));
/* The page that it has just loaded so: it chooses others to leave, or it would take the one that it needs, each time anew. */
extern _Thread_local const page_word_t *vm_untouched __attribute__((tls_model("initial-exec")));
/* Sleeps until the page is not busy any more. For signal mode, where nobody else would be told. */
void page_wait(page_word_t *word);

/* Ends a hold of the busy bit with a new word (its BUSY and PARKED are ignored), and wakes parked faults. */
void page_unlock(struct vm *vm, struct region *region, uint32_t page, uint64_t w, bool have_uffd);
/* Wakes who waits on a page that a thread without the userfaultfd has freed, or on one while a fork was under way: in all regions. Waking
 * too many is harmless. By the background thread. */
void vm_wake_parked(struct vm *vm);
/* The same by any thread, of which only that one does something. Each page_unlock does it; for what takes long without one. */
static inline void vm_wake_meanwhile(struct vm *vm)
{
	if (unlikely(vm_wakes) && unlikely(load_relaxed(&vm->wake_all)))
		vm_wake_parked(vm);
}
/* Waits for the busy bit, spinning and yielding. Not for handlers, and only for callers whose own busy bits, if any,
 * are those of lower pages: holders of a bit never wait for another, so it comes. */
uint64_t page_lock_wait(page_word_t *word);
/*
 * Pins a page that is in memory: from now on it is neither write-protected nor dropped. write: and it is dirty. 0;
 * -EAGAIN: it is not (in that state): touch it, and try again; -EIO: it is poisoned; -EBUSY: pinned 2047 times.
 */
int page_pin(struct vm *vm, struct region *region, uint32_t page, bool write);
void page_unpin(struct vm *vm, struct region *region, uint32_t page);
/* Lets the copy that a word names go, and uncharges it. The caller holds the busy bit. */
void page_copy_free(struct vm *vm, const struct region *region, uint64_t w);
/* The same for a page that stays or has come, and is of that slot's container from now on; while a fork is under way the copy is kept,
 * and goes with it, whatever the limits are. Returns what the page's next word has to have of it. */
uint64_t page_copy_leave(struct vm *vm, const struct region *region, uint64_t w, unsigned owner);
/* A call on the page failed. Wakes who faults there; while a fork is under way, only when that is over: the call would be
 * refused again, and the event that ends it not be read for all the faults. */
void page_wake_later(struct vm *vm, const struct region *region, uint32_t page, int err);
/* What a page has, given a word of it without BUSY, into self->run[0]. 0 or -errno, as for a load. The caller holds its busy
 * bit. */
int page_read(struct vm *vm, struct pager *self, struct region *region, uint32_t page, uint64_t w);

/* Uncharges of resident pages, gathered as long as they are one container's. They go to the counters: see
 * container_uncharge_levels. */
struct dues {
	struct weir_container *container;
	uint64_t bytes;
};
static inline void dues_settle(struct dues *dues)
{
	if (dues->bytes)
		container_uncharge_levels(dues->container, CHARGE_RESIDENT, dues->bytes);
	dues->bytes = 0;
}
static inline void dues_add(struct dues *dues, struct weir_container *container)
{
	if (dues->container != container)
		dues_settle(dues);
	dues->container = container;
	dues->bytes += PAGE_SIZE;
}

static inline struct tenant *tenant_of(const struct weir_container *container)
{
	return (struct tenant *)(uintptr_t)container->above;
}
/* Who pays for the page of a word. The caller holds its busy bit. */
static inline struct weir_container *page_owner(const struct region *region, uint64_t w)
{
	return owners_get(&region->owners, word_owner(w));
}
static inline char *page_address(const struct region *region, uint32_t page)
{
	return region->base + ((size_t)page << PAGE_SHIFT);
}
static inline bool page_readable(const struct region *region, uint32_t page)
{
	/* Pairs with the release in region_track. */
	const _Atomic uint64_t *turned = load_acquire(&region->turned);

	if (likely(!turned))
		return true;
	return (load_relaxed(&turned[page / 64]) >> (page % 64) & 1) != region->readable;
}
static inline page_no_t page_number(const struct region *region, uint32_t page)
{
	return ((uintptr_t)region->base >> PAGE_SHIFT) + page;
}

#endif
