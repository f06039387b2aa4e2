/* SPDX-License-Identifier: BSD-2-Clause */
#include "naive.h"

/* Bits high:low of the word. */
static uint64_t bits(uint64_t word, unsigned high, unsigned low)
{
	uint64_t value = 0;

	for (unsigned i = high + 1; i-- > low;)
		value = value << 1 | (word >> i & 1);
	return value;
}

static bool zero(uint64_t word, unsigned high, unsigned low)
{
	return bits(word, high, low) == 0;
}

/* Every way to fail comes through here. */
static bool fail(struct naive *n)
{
	n->state = NAIVE_FAILED;
	return false;
}

static bool get(struct naive *n, uint64_t reg, uint32_t *value)
{
	if (reg <= 3)
		*value = n->spr[reg];
	else if (reg >= 32 && reg <= 47)
		*value = n->general[reg - 32];
	else if (reg == 56)
		*value = (uint32_t)n->ticks;
	else if (reg >= 0x8000 && reg <= 0x851f)
		*value = n->shared[reg - 0x8000];
	else
		return fail(n);
	return true;
}

static bool put(struct naive *n, uint64_t reg, uint32_t value)
{
	if (reg <= 3)
		n->spr[reg] = value;
	else if (reg >= 32 && reg <= 47)
		n->general[reg - 32] = value;
	else if (reg >= 0x8000 && reg <= 0x851f)
		n->shared[reg - 0x8000] = value;
	else
		return fail(n);
	return true;
}

static bool load(struct naive *n, uint64_t address, uint32_t *value)
{
	return n->read(n->data, address, value) == 0 || fail(n);
}

static bool store(struct naive *n, uint64_t address, uint32_t value, bool masked)
{
	if (masked) {
		uint32_t old;

		if (!load(n, address, &old))
			return false;
		for (unsigned i = 0; i < 32; i++) {
			/* A one in the word of MASK keeps the bit. */
			if (n->mask >> i & 1)
				value = (value & ~(1u << i)) | (old & 1u << i);
		}
	}
	return n->write(n->data, address, value) == 0 || fail(n);
}

static bool in_subsys(struct naive *n, uint64_t id, uint64_t offset, uint64_t *address)
{
	if (n->high[id] < 0)
		return fail(n);
	*address = (uint64_t)n->high[id] * 65536 + offset;
	return true;
}

/* READ, WRITE, POLL: the address; bit 32 is not part of it. */
static bool old_address(struct naive *n, uint64_t word, uint64_t *address)
{
	if (!bits(word, 55, 55))
		return in_subsys(n, bits(word, 52, 48), bits(word, 47, 33) * 2, address);
	if (bits(word, 52, 52) || bits(word, 47, 33))
		return fail(n);
	*address = n->general[bits(word, 51, 48)];
	return true;
}

/* READ_S, WRITE_S: the address, by the 16 bits that have its lower part. */
static bool new_address(struct naive *n, uint64_t word, uint64_t low, uint64_t *address)
{
	uint32_t high;

	if (low & 1)
		return fail(n);
	if (!(low & 2))
		return in_subsys(n, bits(word, 52, 48), low, address);
	if (!get(n, bits(word, 52, 48), &high))
		return false;
	*address = (uint64_t)high * 65536 + (low - 2);
	return true;
}

static bool step_read(struct naive *n, uint64_t word)
{
	uint64_t address;
	uint32_t value;

	/* b_type says general register; it is in the lowest four bits. */
	if (!bits(word, 54, 54) || bits(word, 53, 53) || !zero(word, 31, 4) || bits(word, 32, 32))
		return fail(n);
	if (!old_address(n, word, &address) || !load(n, address, &value))
		return false;
	n->general[bits(word, 3, 0)] = value;
	return true;
}

static bool step_mask(struct naive *n, uint64_t word)
{
	if (!zero(word, 54, 52) || !zero(word, 47, 32))
		return fail(n);
	if (bits(word, 55, 55))
		n->general[bits(word, 51, 48)] = (uint32_t)bits(word, 31, 0);
	else if (zero(word, 51, 48))
		n->mask = (uint32_t)bits(word, 31, 0);
	else
		return fail(n);
	return true;
}

static bool step_write(struct naive *n, uint64_t word)
{
	uint32_t value = (uint32_t)bits(word, 31, 0);
	uint64_t address;

	if (bits(word, 53, 53))
		return fail(n);
	if (bits(word, 54, 54)) {
		if (value > 15)
			return fail(n);
		value = n->general[value];
	}
	return old_address(n, word, &address) && store(n, address, value, bits(word, 32, 32));
}

static bool step_poll(struct naive *n, uint64_t word)
{
	uint32_t value, wanted = (uint32_t)bits(word, 31, 0);
	uint64_t address;

	if (bits(word, 54, 53))
		return fail(n);
	if (!old_address(n, word, &address) || !load(n, address, &value))
		return false;
	n->state = NAIVE_RUNS;
	for (unsigned i = 0; i < 32; i++) {
		if (bits(word, 32, 32) && (n->mask >> i & 1))
			continue;
		if ((value ^ wanted) >> i & 1)
			n->state = NAIVE_POLLS;
	}
	return true;
}

static bool step_event(struct naive *n, uint64_t word)
{
	const uint64_t event = bits(word, 47, 32);

	if (!zero(word, 55, 48) || event > 1023)
		return fail(n);
	n->state = NAIVE_RUNS;
	if (bits(word, 15, 15) && n->event[event] != bits(word, 0, 0)) {
		n->state = NAIVE_WAITS;
		return true;
	}
	if (bits(word, 31, 31))
		n->event[event] = bits(word, 16, 16);
	return true;
}

static bool step_read_s(struct naive *n, uint64_t word)
{
	uint64_t address;
	uint32_t value = 0;

	if (!bits(word, 55, 55) || bits(word, 53, 53) || !zero(word, 15, 0))
		return fail(n);
	if (bits(word, 54, 54)) {
		if (!zero(word, 52, 48))
			return fail(n);
		if (!get(n, bits(word, 31, 16), &value))
			return false;
		address = value;
	} else if (!new_address(n, word, bits(word, 31, 16), &address)) {
		return false;
	}
	return load(n, address, &value) && put(n, bits(word, 47, 32), value);
}

static bool step_write_s(struct naive *n, uint64_t word)
{
	uint32_t value = (uint32_t)bits(word, 31, 0);
	uint64_t address;

	if (bits(word, 53, 53))
		return fail(n);
	if (bits(word, 54, 54)) {
		if (!zero(word, 15, 0) || !get(n, bits(word, 31, 16), &value))
			return fail(n);
	}
	if (bits(word, 55, 55)) {
		uint32_t low;

		if (!zero(word, 52, 48) || !get(n, bits(word, 47, 32), &low))
			return fail(n);
		address = low;
	} else if (!new_address(n, word, bits(word, 47, 32), &address)) {
		return false;
	}
	return store(n, address, value, bits(word, 56, 56));
}

/* arg_b or arg_c, whose type bit is at type. */
static bool argument(struct naive *n, uint64_t word, unsigned type, unsigned low, uint32_t *value)
{
	*value = (uint32_t)bits(word, low + 15, low);
	return !bits(word, type, type) || get(n, *value, value);
}

static bool step_logic(struct naive *n, uint64_t word)
{
	const uint64_t op = bits(word, 52, 48);
	uint64_t left, right;
	uint32_t l, r;

	if (!bits(word, 55, 55))
		return fail(n);
	if (op == 0)
		return zero(word, 54, 53) ? put(n, bits(word, 47, 32), (uint32_t)bits(word, 31, 0))
					  : fail(n);
	if ((op > 3 && op < 8) || op > 13 ||
	    (op == 9 && (bits(word, 53, 53) || !zero(word, 15, 0))))
		return fail(n);
	if (!argument(n, word, 54, 16, &l) || !argument(n, word, 53, 0, &r))
		return false;
	left = l;
	right = r;
	if (op == 1)
		left += right;
	else if (op == 2)
		left -= right;
	else if (op == 3)
		left *= right;
	else if (op == 8)
		left ^= right;
	else if (op == 9)
		left = ~left;
	else if (op == 10)
		left |= right;
	else if (op == 11)
		left &= right;
	for (; op == 12 && right && left; right--)
		left = left * 2 % 0x100000000;
	for (; op == 13 && right && left; right--)
		left /= 2;
	return put(n, bits(word, 47, 32), (uint32_t)left);
}

static uint64_t relative(const struct naive *n, int64_t offset)
{
	for (unsigned i = 0; i < n->shift; i++)
		offset *= 2;
	return n->pc + (uint64_t)offset;
}

static bool step_jump_c(struct naive *n, uint64_t word, uint64_t *next)
{
	const uint64_t condition = bits(word, 52, 48);
	uint32_t l, r, target = (uint32_t)bits(word, 47, 32);

	if (condition > 5)
		return fail(n);
	if (!argument(n, word, 54, 16, &l) || !argument(n, word, 53, 0, &r))
		return false;
	if (!((condition == 0 && l == r) || (condition == 1 && l != r) ||
	      (condition == 2 && l >= r) || (condition == 3 && l <= r) ||
	      (condition == 4 && l > r) || (condition == 5 && l < r)))
		return true;
	if (bits(word, 55, 55)) {
		if (!get(n, target, &target))
			return false;
	} else if (bits(word, 56, 56) && target >= 0x8000) {
		target |= 0xffff0000;
	}
	*next = bits(word, 56, 56) ? relative(n, (int32_t)target) : (uint64_t)target << n->shift;
	return true;
}

static bool step_jump(struct naive *n, uint64_t word, uint64_t *next)
{
	const uint32_t target = (uint32_t)bits(word, 31, 0);

	if (!zero(word, 55, 33))
		return fail(n);
	*next = bits(word, 32, 32) ? (uint64_t)target << n->shift : relative(n, (int32_t)target);
	return true;
}

static bool step_eoc(struct naive *n, uint64_t word)
{
	if (!zero(word, 55, 32))
		return fail(n);
	n->interrupt |= bits(word, 0, 0);
	return true;
}

static bool step(struct naive *n, uint64_t word, uint64_t *next)
{
	switch (bits(word, 63, 56)) {
	case 0x01:
		return step_read(n, word);
	case 0x02:
		return step_mask(n, word);
	case 0x04:
		return step_write(n, word);
	case 0x08:
		return step_poll(n, word);
	case 0x10:
		return step_jump(n, word, next);
	case 0x20:
		return step_event(n, word);
	case 0x40:
		return step_eoc(n, word);
	case 0x80:
		return step_read_s(n, word);
	case 0x90:
	case 0x91:
		return step_write_s(n, word);
	case 0xa0:
		return step_logic(n, word);
	case 0xb0:
	case 0xb1:
		return step_jump_c(n, word, next);
	default:
		return fail(n);
	}
}

void naive_step(struct naive *n)
{
	uint64_t next = n->pc + 8;

	if (n->state == NAIVE_FAILED)
		return;
	if (n->pc == n->end) {
		n->state = NAIVE_ENDED;
		return;
	}
	if (n->pc < n->base || n->pc >= n->base + n->count * 8ull || n->pc % 8) {
		fail(n);
		return;
	}
	if (!step(n, n->program[(n->pc - n->base) / 8], &next))
		return;
	/* A wait takes no time, a look of POLL does. */
	if (n->state == NAIVE_WAITS)
		return;
	n->ticks++;
	if (n->state != NAIVE_POLLS)
		n->pc = next;
}
