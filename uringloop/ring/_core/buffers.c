/* Buffer groups: memory that the kernel fills in its own order, one buffer a receive.
 *
 * A buffer is lent from its CQE until it is recycled; recycling puts it at the tail of the ring that the kernel takes
 * from.  A build with UL_DEBUG aborts unless each buffer is recycled once, and by its borrower.  The ring is registered at its largest size; buffers are added in blocks, each as large as all before it. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_BLOCKS 16

/* Memory for the kernel to write to, which a forked child does not inherit; NULL if there is none. */
void *ul_map_private(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, size, MADV_DONTFORK);
    return memory;
}

/* Puts a buffer at the tail of a ring of entry_count entries, a power of two, and lets the kernel see it. */
void ul_buffer_provide(struct io_uring_buf *entries, uint32_t entry_count, uint16_t tail, void *memory,
                       uint32_t size_bytes, uint16_t buffer_id)
{
    struct io_uring_buf *entry = &entries[tail & (entry_count - 1)];
    entry->addr = (uint64_t)(uintptr_t)memory;
    entry->len = size_bytes;
    entry->bid = buffer_id;
    store_release(&entries[0].resv, (uint16_t)(tail + 1));
}

static void provide(ul_buffers *group, uint32_t buffer_id)
{
    ul_buffer_provide(group->entries, group->count_max, group->tail++, group->address[buffer_id], group->size_bytes,
                      (uint16_t)buffer_id);
}

#ifdef UL_DEBUG

static void change_borrower(ul_buffers *group, uint32_t buffer_id, const void *from, const void *to)
{
    if (group->borrowers == NULL)
        group->borrowers = calloc(group->count_max, sizeof(*group->borrowers));
    if (buffer_id < group->count && group->borrowers[buffer_id] == from) {
        group->borrowers[buffer_id] = to;
        return;
    }
    fprintf(stderr, "buffer %u of %u: borrower %p, not %p\n", buffer_id, group->count,
            buffer_id < group->count ? (void *)group->borrowers[buffer_id] : NULL, (void *)from);
    abort();
}

#else

static void change_borrower(ul_buffers *group, uint32_t buffer_id, const void *from, const void *to)
{
    (void)group, (void)buffer_id, (void)from, (void)to;
}

#endif

static int add_block(ul_buffers *group, uint32_t count)
{
    char *block = ul_map_private((size_t)count * group->size_bytes);
    if (block == NULL)
        return -ENOMEM;
    if (group->sparse)
        madvise(block, (size_t)count * group->size_bytes, MADV_NOHUGEPAGE);
    group->blocks[group->block_count++] = block;
    for (uint32_t i = 0; i < count; i++) {
        group->address[group->count] = block + (size_t)i * group->size_bytes;
        provide(group, group->count++);
    }
    return 0;
}

/* count_max is a power of two, at most 32768; count divides it. */
int ul_buffers_open(ul_ring *ring, uint32_t group_id, uint32_t count, uint32_t size_bytes, uint32_t count_max)
{
    ul_buffers *group = &ring->buffers[group_id];
    if (group->entries != NULL)
        return 0;
    group->count_max = count_max;
    group->size_bytes = size_bytes;
    group->sparse = group_id == UL_GROUP_DATAGRAM;
    group->entries = ul_map_private(count_max * sizeof(struct io_uring_buf));
    group->address = calloc(count_max, sizeof(*group->address));
    group->blocks = calloc(MAX_BLOCKS, sizeof(*group->blocks));
    if (group->entries == NULL || group->address == NULL || group->blocks == NULL) {
        ul_buffers_close(ring, group_id);
        return -ENOMEM;
    }
    struct io_uring_buf_reg reg = {(uint64_t)(uintptr_t)group->entries, count_max, (uint16_t)group_id, 0, {0}};
    int error = ul_ring_register(ring->fd, IORING_REGISTER_PBUF_RING, &reg, 1);
    if (error == 0)
        error = add_block(group, count);
    if (error < 0)
        ul_buffers_close(ring, group_id);
    return error;
}

/* Twice as many buffers; -ENOSPC when the group is as large as it may be, or has one for everything in flight: then it
 * is not many receives that emptied it but one that is fast, which more memory would not slow down. */
int ul_buffers_grow(ul_ring *ring, uint32_t group_id)
{
    ul_buffers *group = &ring->buffers[group_id];
    if (group->entries == NULL || ring->forgotten)
        return -ENOBUFS;
    if (group->count * 2 > group->count_max || group->block_count == MAX_BLOCKS)
        return -ENOSPC;
    if (group->count >= ring->statistics.in_flight)
        return -ENOSPC;
    return add_block(group, group->count);
}

/* borrower: who will recycle it. */
char *ul_buffer_lend(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
{
    ul_buffers *group = &ring->buffers[group_id];
    change_borrower(group, buffer_id, NULL, borrower);
    group->lent++;
    return group->address[buffer_id];
}

/* In a forked child the buffers and their ring are not there. */
void ul_buffer_recycle(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
{
    ul_buffers *group = &ring->buffers[group_id];
    change_borrower(group, buffer_id, borrower, NULL);
    group->lent--;
    if (!ring->forgotten)
        provide(group, buffer_id);
}

/* After the ring fd is closed and nothing is in flight. */
void ul_buffers_close(ul_ring *ring, uint32_t group_id)
{
    ul_buffers *group = &ring->buffers[group_id];
    uint32_t count = group->count;
    while (group->block_count > 0) {
        count = group->block_count > 1 ? count / 2 : count;
        munmap(group->blocks[--group->block_count], (size_t)count * group->size_bytes);
    }
    if (group->entries != NULL)
        munmap(group->entries, group->count_max * sizeof(struct io_uring_buf));
    free(group->blocks);
    free(group->address);
#ifdef UL_DEBUG
    free(group->borrowers);
#endif
    memset(group, 0, sizeof(*group));
}
