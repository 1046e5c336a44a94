/* Buffer groups: memory that the kernel fills in its own order, one buffer a receive.
 *
 * A buffer is lent from its CQE until it is recycled; recycling puts it at the tail of the ring that the kernel takes
 * from.  A build with UL_DEBUG aborts unless each buffer is recycled once, and by its borrower.  The ring is registered
 * at its largest size; buffers are added in blocks, each as large as all before it.
 *
 * Growing: receives that find the group empty in one round are counted.  Many of them need more buffers.  A few mean
 * that some streams are fast, which would empty a group of any size.
 *
 * Shrinking: the last blocks are released when twice what was lent at once, in one to two seconds, does without them.
 * The kernel may write into a buffer from the moment that it was provided until its CQE, and a provided buffer cannot
 * be withdrawn.  So a buffer of such a block is kept when it is recycled, and the block is unmapped when all of them
 * are here.  Those at which no receive arrives are taken out by reads of an empty file, which use up a buffer each and
 * leave it untouched.  All that happens in enters that there are anyway: an idle loop is not woken for it. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_BLOCKS 16
#define MANY_OF 8              /* an eighth as many receives as there are buffers are many */
#define PERIOD_NS 1000000000LL /* in which the need is measured */
#define TAKEN_AT_ONCE 64       /* of the buffers that the kernel still has */

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
    group->kept = group->count;
    return 0;
}

/* count_max is a power of two, at most 32768; count divides it.  sparse: the buffers are hardly ever filled. */
int ul_buffers_open(ul_ring *ring, uint32_t group_id, uint32_t count, uint32_t size_bytes, uint32_t count_max,
                    int sparse)
{
    ul_buffers *group = &ring->buffers[group_id];
    if (group->entries != NULL)
        return 0;
    group->count_first = count;
    group->count_max = count_max;
    group->size_bytes = size_bytes;
    group->sparse = sparse != 0;
    group->entries = ul_map_private(count_max * sizeof(struct io_uring_buf));
    group->address = calloc(count_max, sizeof(*group->address));
    group->blocks = calloc(MAX_BLOCKS, sizeof(*group->blocks));
    group->retired = calloc(count_max, 1);
    if (group->entries == NULL || group->address == NULL || group->blocks == NULL || group->retired == NULL) {
        ul_buffers_close(ring, group_id);
        return -ENOMEM;
    }
    struct io_uring_buf_reg reg = {(uint64_t)(uintptr_t)group->entries, count_max, (uint16_t)group_id, 0, {0}};
    int error = ul_ring_register(ring, IORING_REGISTER_PBUF_RING, &reg, 1);
    if (error == 0)
        error = add_block(group, count);
    if (error < 0)
        ul_buffers_close(ring, group_id);
    return error;
}

/* A receive found no buffer; -ENOBUFS if there is no group at all. */
int ul_buffers_found_empty(ul_ring *ring, uint32_t group_id)
{
    ul_buffers *group = &ring->buffers[group_id];
    if (group->entries == NULL || ring->dropped)
        return -ENOBUFS;
    group->found_empty++;
    return 0;
}

/* Gives the kernel back what was kept from it, because it is needed after all. */
static void keep_all(ul_buffers *group)
{
    for (uint32_t id = group->kept; group->retired_count > 0 && id < group->count; id++)
        if (group->retired[id]) {
            group->retired[id] = 0;
            group->retired_count--;
            provide(group, id);
        }
    group->kept = group->count;
    group->takes_left = 0;
}

static void grow(ul_buffers *group)
{
    uint32_t needed = group->kept + group->found_empty;
    int error = 0;
    if (group->found_empty > group->kept / MANY_OF) {
        keep_all(group);
        while (error == 0 && group->count < needed && group->count * 2 <= group->count_max &&
               group->block_count < MAX_BLOCKS)
            error = add_block(group, group->count); /* without memory it stays as it is */
        group->lent_max = needed;
    }
    group->found_empty = 0;
}

/* At the end of a period: how many buffers are needed. */
static void choose_kept(ul_buffers *group, int64_t now_ns)
{
    uint32_t lent_max = group->lent_max > group->lent_max_before ? group->lent_max : group->lent_max_before;
    uint32_t kept = group->count;
    while (kept > group->count_first && kept / 2 >= 2 * lent_max)
        kept /= 2;
    if (group->period_end_ns != 0 && kept < group->kept) {
        group->kept = kept;
        group->takes_left = group->count; /* once around */
    }
    group->lent_max_before = group->lent_max;
    group->lent_max = group->lent;
    group->period_end_ns = now_ns + PERIOD_NS;
}

static void unmap_retired(ul_buffers *group)
{
    while (group->count > group->kept) {
        group->count /= 2;
        munmap(group->blocks[--group->block_count], (size_t)group->count * group->size_bytes);
    }
    memset(group->retired + group->kept, 0, group->retired_count);
    group->retired_count = group->takes_left = 0;
}

/* Takes buffers out of the group, whichever come next. */
static int take(ul_ring *ring, uint32_t group_id)
{
    ul_buffers *group = &ring->buffers[group_id];
    int error = 0;
    int empty_file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (empty_file < 0)
        return 0; /* the receives to come take them */
    while (group->takes_left > 0 && group->taking < TAKEN_AT_ONCE && ring->sq_entries > ul_staged(ring)) {
        struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
        if (sqe == NULL)
            break;
        sqe->opcode = IORING_OP_READ;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->fd = empty_file;
        sqe->buf_index = (uint16_t)group_id;
        sqe->user_data = ring->stamp | (uint64_t)group_id << UL_KIND_BITS | UL_KIND_BUFFER;
        group->taking++;
        group->takes_left--;
    }
    if (error == 0)
        error = ul_enter(ring, 0, -1);
    close(empty_file);
    return error < 0 ? error : 0;
}

void ul_buffer_taken(ul_ring *ring, const struct io_uring_cqe *cqe)
{
    uint32_t group_id = (uint32_t)((cqe->user_data & ~UL_STAMP_MASK) >> UL_KIND_BITS);
    ul_buffers *group = &ring->buffers[group_id];
    group->taking--;
    if (!(cqe->flags & IORING_CQE_F_BUFFER))
        return;
    uint32_t buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT, lent_max = group->lent_max;
    ul_buffer_lend(ring, group_id, buffer_id, group);
    ul_buffer_recycle(ring, group_id, buffer_id, group);
    group->lent_max = lent_max;
}

static int adjust(ul_ring *ring, uint32_t group_id)
{
    ul_buffers *group = &ring->buffers[group_id];
    if (group->found_empty > 0)
        grow(group);
    if (group->count == group->count_first)
        return 0;
    int64_t now_ns = ul_now_ns();
    if (now_ns >= group->period_end_ns)
        choose_kept(group, now_ns);
    if (group->kept == group->count)
        return 0;
    if (group->retired_count == group->count - group->kept)
        unmap_retired(group);
    else if (group->takes_left > 0)
        return take(ring, group_id);
    return 0;
}

/* Has the groups follow the need; called before an enter. */
int ul_buffers_adjust_all(ul_ring *ring)
{
    int error = 0;
    for (uint32_t group_id = 0; error == 0 && group_id < UL_GROUPS; group_id++)
        error = adjust(ring, group_id);
    return error;
}

/* borrower: who will recycle it. */
char *ul_buffer_lend(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
{
    ul_buffers *group = &ring->buffers[group_id];
    change_borrower(group, buffer_id, NULL, borrower);
    if (++group->lent > group->lent_max)
        group->lent_max = group->lent;
    return group->address[buffer_id];
}

/* In a forked child the buffers and their ring are not there. */
void ul_buffer_recycle(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
{
    ul_buffers *group = &ring->buffers[group_id];
    change_borrower(group, buffer_id, borrower, NULL);
    group->lent--;
    if (ring->dropped)
        return;
    if (buffer_id < group->kept) {
        provide(group, buffer_id);
    } else {
        group->retired[buffer_id] = 1;
        group->retired_count++;
    }
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
    free(group->retired);
    memset(group, 0, sizeof(*group));
}
