/* Buffer groups: rings of buffers in memory that the backend takes from, as the kernel does. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>

static ul_group **find(ul_user *user, uint16_t id)
{
    ul_group **link = &user->groups;
    while (*link != NULL && (*link)->id != id)
        link = &(*link)->next;
    return link;
}

int ul_group_register(ul_user *user, const struct io_uring_buf_reg *reg)
{
    if (reg->flags != 0 || reg->ring_addr == 0 || reg->ring_entries == 0 || reg->ring_entries > 32768 ||
        reg->ring_entries & (reg->ring_entries - 1))
        return -EINVAL;
    if (*find(user, reg->bgid) != NULL)
        return -EEXIST;
    ul_group *group = calloc(1, sizeof(*group));
    if (group == NULL)
        return -ENOMEM;
    group->entries = (struct io_uring_buf *)(uintptr_t)reg->ring_addr;
    group->count = reg->ring_entries;
    group->id = reg->bgid;
    group->next = user->groups;
    user->groups = group;
    return 0;
}

int ul_group_unregister(ul_user *user, const struct io_uring_buf_reg *reg)
{
    ul_group **link = find(user, reg->bgid), *group = *link;
    if (group == NULL)
        return -ENOENT;
    *link = group->next;
    free(group);
    return 0;
}

/* IORING_REGISTER_PBUF_STATUS: status[0] is the group's id, status[1] gets its head. */
int ul_group_status(ul_user *user, uint32_t *status)
{
    const ul_group *group = *find(user, (uint16_t)status[0]);
    if (group == NULL)
        return -ENOENT;
    status[1] = group->head;
    return 0;
}

/* The buffer that is next, which stays in the group until it is used; NULL: there is none. */
const struct io_uring_buf *ul_group_next(ul_user *user, uint16_t id)
{
    const ul_group *group = *find(user, id);
    if (group == NULL || load_acquire(&group->entries[0].resv) == group->head)
        return NULL;
    return &group->entries[group->head & (group->count - 1)];
}

/* Takes the next buffer out; the flags of the CQE that lends it. */
uint32_t ul_group_use(ul_user *user, uint16_t id)
{
    ul_group *group = *find(user, id);
    uint32_t buffer_id = group->entries[group->head & (group->count - 1)].bid;
    group->head++;
    return IORING_CQE_F_BUFFER | buffer_id << IORING_CQE_BUFFER_SHIFT;
}

void ul_groups_free(ul_user *user)
{
    while (user->groups != NULL) {
        ul_group *group = user->groups;
        user->groups = group->next;
        free(group);
    }
}
