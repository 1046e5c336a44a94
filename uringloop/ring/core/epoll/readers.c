/* Readers and writers in the set, beside the requests (readers.h). */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>

static int change(int set_fd, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return epoll_ctl(set_fd, operation, fd, &event) < 0 ? -errno : 0;
}

/* Has the set tell of readers from now on; NULL if the backend has none of its own, or no memory is left. */
ul_readers *ul_readers_open(ul_ring *ring, int other_fd)
{
    if (ring->dropped || ring->backend != &ul_backend_epoll)
        return NULL;
    ul_user *user = ring->backend_state;
    if (ring->readers != NULL)
        return ring->readers;
    ul_readers *readers = calloc(1, sizeof(*readers));
    if (readers == NULL)
        return NULL;
    if (change(user->epoll_fd, EPOLL_CTL_ADD, other_fd, EPOLLONESHOT, UL_OTHER_SET_DATA) < 0) {
        free(readers);
        return NULL;
    }
    readers->set_fd = user->epoll_fd;
    readers->other_fd = other_fd;
    return ring->readers = readers;
}

/* epoll_ctl(2) for a reader: 0, a negative errno, or UL_READER_ELSEWHERE. */
int ul_reader_control(ul_ring *ring, int operation, int fd, uint32_t events, uint32_t generation)
{
    ul_user *user = ring->backend_state;
    ul_watched *watched = fd >= 0 && (uint32_t)fd < user->watched_count ? &user->watched[fd] : NULL;
    if (watched != NULL && !ul_watch_leaves(user, fd, watched))
        return UL_READER_ELSEWHERE;
    int error = change(user->epoll_fd, operation, fd, events, ul_reader_data(fd, generation));
    /* No place before: any number may be asked for. */
    if (error == 0 && watched == NULL && (watched = ul_watched_at(user, fd)) == NULL) {
        change(user->epoll_fd, EPOLL_CTL_DEL, fd, 0, 0);
        return -ENOMEM;
    }
    if (watched == NULL || error == -EEXIST)
        return error;
    watched->reader_in_set = error == 0 && operation != EPOLL_CTL_DEL;
    watched->reader_events = events;
    watched->reader_generation = generation;
    watched->reader_missed = 0;
    return error;
}

static void note_missed(ul_readers *readers, uint32_t fd)
{
    int none = readers->missed_from == readers->missed_end;
    if (none || fd < readers->missed_from)
        readers->missed_from = fd;
    if (none || fd >= readers->missed_end)
        readers->missed_end = fd + 1;
}

static void take_event(const ul_user *user, ul_readers *readers, const struct epoll_event *event)
{
    int fd = (int)(uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32) & ~(uint32_t)(UL_READER_BIT >> 32);
    ul_watched *watched = &user->watched[fd];
    int is_known = watched->reader_in_set && watched->reader_generation == generation;
    if (readers->collects && is_known && watched->reader_round == readers->round)
        return; /* a second look within one sleep */
    if (readers->collects && readers->count < UL_READERS_MAX) {
        watched->reader_round = readers->round;
        readers->events[readers->count] = *event;
        readers->events[readers->count++].data.u64 &= ~UL_READER_BIT;
        if (is_known && watched->reader_events & EPOLLONESHOT)
            watched->reader_events = EPOLLONESHOT;
    } else if (is_known) {
        note_missed(readers, (uint32_t)fd);
        watched->reader_missed = 1;
        change(user->epoll_fd, EPOLL_CTL_MOD, fd, EPOLLONESHOT, event->data.u64);
    }
}

static int is_readers(uint64_t data) { return data & UL_READER_BIT && data < UL_OTHER_SET_DATA; }

/* Whether all events are those of readers. */
int ul_readers_alone(const ul_user *user)
{
    for (int place = 0; place < user->event_count; place++) {
        if (!is_readers(user->events[place].data.u64))
            return 0;
    }
    return 1;
}

/* Takes the events of readers, in the order in which they came. */
void ul_readers_serve(ul_user *user)
{
    ul_readers *readers = user->ring->readers;
    for (int place = 0; place < user->event_count; place++) {
        uint64_t data = user->events[place].data.u64;
        if (data == UL_OTHER_SET_DATA) {
            readers->other_found = 1;
            readers->other_armed = 0;
        } else if (is_readers(data)) {
            take_event(user, readers, &user->events[place]);
        }
    }
}

/* Begins to collect; switches the entries on whose events were dropped. */
void ul_readers_ask(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    ul_readers *readers = ring->readers;
    readers->collects = 1;
    readers->round++;
    readers->count = readers->other_found = 0;
    if (!readers->other_armed)
        readers->other_armed = change(user->epoll_fd, EPOLL_CTL_MOD, readers->other_fd, EPOLLIN | EPOLLONESHOT,
                                      UL_OTHER_SET_DATA) == 0;
    for (uint32_t fd = readers->missed_from; fd < readers->missed_end; fd++) {
        ul_watched *watched = &user->watched[fd];
        if (!watched->reader_missed)
            continue;
        watched->reader_missed = 0;
        change(user->epoll_fd, EPOLL_CTL_MOD, (int)fd, watched->reader_events,
               ul_reader_data((int)fd, watched->reader_generation));
    }
    readers->missed_from = readers->missed_end = 0;
}
