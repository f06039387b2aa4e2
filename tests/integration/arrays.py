# SPDX-License-Identifier: BSD-2-Clause
"""arrays.py [ENTRIES]: dicts, arrays and anonymous maps, written, changed and read back in an order that pages badly; prints digests."""

import array
import hashlib
import mmap
import sys

entries = int(sys.argv[1]) if len(sys.argv) > 1 else 32000
digest = hashlib.sha256()


def order(count, block=500):
    """Every number below count, once: blocks of neighbours, far from each other."""
    blocks = (count + block - 1) // block
    step = 7
    while blocks % step == 0:
        step += 2
    return (n for i in range(blocks) for n in range(i * step % blocks * block, min((i * step % blocks + 1) * block, count)))


table = {}
for i in range(entries):
    table["key%d" % i] = (i, "value %d of something that compresses" % (i * 31))
for i in order(entries):
    if i % 3 == 0:
        del table["key%d" % i]
    elif i % 3 == 1:
        table["key%d" % i] = (i + 1, "changed %d" % i)
print(len(table))
for i in order(entries):
    digest.update(repr(table.get("key%d" % i)).encode())
print("dict", digest.hexdigest())

numbers = array.array("Q", range(entries * 8))
for i in order(len(numbers)):
    if i % 5 == 0:
        numbers[i] = (numbers[i] * 2654435761) & 0xFFFFFFFFFFFFFFFF
numbers.extend(numbers[: entries])
print("array", hashlib.sha256(numbers).hexdigest())

size = entries * 64
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if any(memory[i] for i in range(0, size, 4096)):
    sys.exit("a new map is not zero")
for i in order(size // 4096):
    memory[i * 4096 : i * 4096 + 40] = b"%40d" % i
memory.resize(size * 2)
for i in order(size // 4096):
    memory[size + i * 4096 : size + i * 4096 + 40] = memory[i * 4096 : i * 4096 + 40]
print("mmap", hashlib.sha256(memory).hexdigest())
memory.madvise(mmap.MADV_DONTNEED, 0, mmap.PAGESIZE * 16)
if memory[: mmap.PAGESIZE * 16].count(0) != mmap.PAGESIZE * 16:
    sys.exit("a map that was given back is not zero")
memory.close()
for i in order(entries):
    digest.update(repr(table.get("key%d" % i)).encode())
print("again", digest.hexdigest())
