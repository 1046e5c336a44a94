/* Tables that name what is open in a token: slot by slot, with a serial number of 28 bits.  A token comes again after
 * 268 million others of its ring at the earliest.  So no operation with it is still in flight in the same slot. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_SLOTS (1U << UL_SLOT_BITS)

static int grow(ul_slots *slots)
{
    uint32_t capacity = slots->capacity ? slots->capacity * 2 : 64;
    if (capacity > MAX_SLOTS)
        return -EMFILE;
    void **entries = realloc(slots->entries, capacity * sizeof(*entries));
    if (entries == NULL)
        return -ENOMEM;
    slots->entries = entries;
    uint32_t *free_slots = realloc(slots->free_slots, capacity * sizeof(*free_slots));
    if (free_slots == NULL)
        return -ENOMEM;
    slots->free_slots = free_slots;
    slots->capacity = capacity;
    return 0;
}

int ul_slot_take(ul_slots *slots, void *entry, uint32_t *slot)
{
    if (slots->free_count == 0 && slots->count == slots->capacity) {
        int error = grow(slots);
        if (error < 0)
            return error;
    }
    *slot = slots->free_count > 0 ? slots->free_slots[--slots->free_count] : slots->count++;
    slots->entries[*slot] = entry;
    return 0;
}

void ul_slot_release(ul_slots *slots, uint32_t slot)
{
    slots->entries[slot] = NULL;
    slots->free_slots[slots->free_count++] = slot;
}

uint64_t ul_slot_token(ul_ring *ring, uint32_t slot, uint32_t kind)
{
    uint64_t serial = (uint64_t)ring->next_serial++ << (UL_KIND_BITS + UL_SLOT_BITS);
    return ring->stamp | (serial & ~UL_STAMP_MASK) | (uint64_t)slot << UL_KIND_BITS | kind;
}

/* What is in the slot that the token names; the caller knows its tokens and ignores those of a predecessor. */
void *ul_slot_find(const ul_slots *slots, uint64_t token)
{
    uint32_t slot = token >> UL_KIND_BITS & (MAX_SLOTS - 1);
    return slot < slots->count ? slots->entries[slot] : NULL;
}

void ul_slots_close(ul_slots *slots)
{
    free(slots->entries);
    free(slots->free_slots);
}
