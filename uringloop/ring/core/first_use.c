/* What a loop makes when it first needs it, because making it takes time, and memory that counts against
 * RLIMIT_MEMLOCK: the buffer group for bytes in order, and the room of a larger completion queue.  Where it is refused
 * the loop does without. */
#include "internal.h"

#include <errno.h>

/* Whether the kernel knows an opcode of io_uring_register: one that it knows looks at its argument, which is no memory.
 * A kernel that knew it once is not asked again. */
static int knows(ul_ring *ring, uint32_t opcode, int *known)
{
    if (__atomic_load_n(known, __ATOMIC_RELAXED))
        return 1;
    int knows_it = ul_ring_register(ring, opcode, (void *)1, 1) == -EFAULT;
    __atomic_store_n(known, knows_it, __ATOMIC_RELAXED);
    return knows_it;
}

/* Has UL_GROUP_BYTES made when it is needed, as by ul_buffers_open; whether the kernel has buffer groups. */
int ul_buffers_plan(ul_ring *ring, uint32_t count, uint32_t size_bytes, uint32_t count_max)
{
    static int known;
    if (!knows(ring, IORING_REGISTER_PBUF_RING, &known))
        return 0;
    ring->buffers_planned = count;
    ring->buffers_planned_size = size_bytes;
    ring->buffers_planned_max = count_max;
    return 1;
}

/* Whether UL_GROUP_BYTES is there, now that it is needed. */
int ul_buffers_need(ul_ring *ring)
{
    if (ring->buffers[UL_GROUP_BYTES].entries != NULL)
        return 1;
    if (ring->buffers_planned == 0 || ring->dropped)
        return 0;
    if (ul_buffers_open(ring, UL_GROUP_BYTES, ring->buffers_planned, ring->buffers_planned_size,
                        ring->buffers_planned_max, 0) == 0)
        return 1;
    ring->buffers_planned = 0;
    return 0;
}

/* Lets the completion queue grow to so many entries; whether the kernel can do that. */
int ul_ring_allow_growth(ul_ring *ring, uint32_t cq_entries)
{
    static int known;
    if (!(ring->setup_flags & IORING_SETUP_DEFER_TASKRUN) || !knows(ring, IORING_REGISTER_RESIZE_RINGS, &known))
        return 0;
    ring->cq_entries_max = cq_entries;
    return 1;
}

/* Whether the completion queue has overflowed and may grow. */
int ul_ring_wants_room(ul_ring *ring)
{
    return ring->statistics.overflows > 0 && ring->cq_entries < ring->cq_entries_max;
}

int ul_ring_make_room(ul_ring *ring)
{
    int error = ul_ring_resize(ring, ring->sq_entries, ring->cq_entries_max);
    if (error < 0 && error != -EAGAIN && error != -EBUSY)
        ring->cq_entries_max = 0; /* there is no memory for it, most likely */
    return error;
}
