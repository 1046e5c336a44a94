/* The epoll set: which descriptors it has, and the requests that wait for them.
 *
 * An owned descriptor is one of an engine's endpoint, which tells before it closes it.  Its interest stays in the set
 * while requests come and go, so most messages cost no epoll_ctl.  It is taken out when a second event finds no request
 * that waits.  After the first one the descriptor is mostly closed, which takes it out too, unless a forked child may
 * hold its file.  The entry of a TCP socket tells of news only (EPOLLET), as long as its receives leave nothing
 * (socket.c).
 *
 * A foreign descriptor may be closed behind our back, and its number used again.  A copy of it keeps the old entry in
 * the set.  Each wait adds or changes its entry, so an error comes from there.  The entry switches itself off
 * (EPOLLONESHOT), so one that is stale fires once, and its number tells it from the entry of now.  A multishot poll
 * needs each edge, so its entry stays until the poll ends.  Before a request is tried again, its descriptor's file is
 * compared with the one of the first try: EBADF if it has changed.  A ring without engines compares before each sleep,
 * too; a loop looks for closed sockets itself.  A descriptor that another thread closes during the sleep is not seen.
 *
 * epoll refuses regular files and some devices with EPERM: they are always ready.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WATCHED_MIN 64
#define ALWAYS_READY (EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM)

/* Counts the forks of this process: each child may hold the files that were open. */
static uint32_t forks;

/* The place of a descriptor; NULL: it is none, or no memory is left. */
ul_watched *ul_watched_at(ul_user *user, int fd)
{
    if (fd < 0)
        return NULL;
    if ((uint32_t)fd >= user->watched_count) {
        uint32_t count = user->watched_count ? user->watched_count : WATCHED_MIN;
        while (count <= (uint32_t)fd)
            count *= 2;
        ul_watched *watched = realloc(user->watched, count * sizeof(*watched));
        if (watched == NULL)
            return NULL;
        memset(watched + user->watched_count, 0, (count - user->watched_count) * sizeof(*watched));
        user->watched = watched;
        user->watched_count = count;
    }
    return &user->watched[fd];
}

/* The events that the descriptor's requests wait for. */
static uint32_t wanted(const ul_watched *watched, int *owned)
{
    uint32_t events = 0;
    *owned = 1;
    for (const ul_request *request = watched->waiting.first; request != NULL; request = request->next) {
        events |= request->events;
        *owned &= request->owned;
    }
    return events;
}

static int change(const ul_user *user, int fd, const ul_watched *watched, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.u64 = (uint64_t)watched->entry << 32 | (uint32_t)fd}};
    return epoll_ctl(user->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

/* The data of a request's event has no UL_READER_BIT. */
static void count_entry(ul_watched *watched) { watched->entry = (watched->entry + 1) & (UL_READER_BIT - 1) >> 32; }

/* A request needs the place of a reader, whose entry moves to the other set (readers.h). */
static void move_reader(const ul_user *user, int fd, ul_watched *watched)
{
    ul_readers *readers = user->ring->readers;
    uint64_t data = (uint64_t)watched->reader_generation << 32 | (uint32_t)fd;
    struct epoll_event event = {.events = watched->reader_events, .data = {.u64 = data}};
    watched->reader_in_set = watched->reader_missed = 0;
    readers->has_yielded = 1;
    /* An error is that of another file, whose entry is gone. */
    if (epoll_ctl(user->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0)
        epoll_ctl(readers->other_fd, EPOLL_CTL_ADD, fd, &event);
}

/* Puts the descriptor into the set, or changes its entry, which may be gone with its file. */
static int put(ul_user *user, int fd, ul_watched *watched, uint32_t events)
{
    if (watched->reader_in_set)
        move_reader(user, fd, watched);
    if (!watched->in_set)
        count_entry(watched);
    int error = change(user, fd, watched, watched->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events);
    if (error == -ENOENT) {
        count_entry(watched);
        error = change(user, fd, watched, EPOLL_CTL_ADD, events);
    } else if (error == -EEXIST) {
        error = change(user, fd, watched, EPOLL_CTL_MOD, events);
    }
    if (!watched->in_set)
        watched->forks = load_relaxed(&forks);
    watched->unheard = 0;
    watched->in_set = error == 0;
    watched->interest = error == 0 ? events : 0;
    return error;
}

/* The entry that its requests need; 0, or a negative errno.  woken: the request that it has just woken, or NULL. */
static int settle(ul_user *user, int fd, ul_watched *watched, const ul_request *woken)
{
    int owned;
    uint32_t events = wanted(watched, &owned);
    /* A change looks at the descriptor anew, and a request that waits for an edge must not. */
    if (woken != NULL && woken->events & EPOLLET && (watched->interest & events) == events)
        return 0;
    if (owned) {
        int stays = watched->in_set && !(watched->interest & (EPOLLONESHOT | EPOLLET));
        if (stays && (watched->interest & events) == events)
            return 0;
        return put(user, fd, watched, stays ? watched->interest | events : events);
    }
    return put(user, fd, watched, events & EPOLLET ? events : events | EPOLLONESHOT);
}

static void take_out(const ul_user *user, int fd, ul_watched *watched)
{
    if (watched->in_set)
        change(user, fd, watched, EPOLL_CTL_DEL, 0);
    watched->in_set = watched->unheard = 0;
    watched->interest = 0;
}

/* Whether no request needs the descriptor's entry; one that is left over is taken out. */
int ul_watch_leaves(const ul_user *user, int fd, ul_watched *watched)
{
    if (watched->waiting.first != NULL || watched->interest != 0)
        return 0;
    take_out(user, fd, watched);
    return 1;
}

static int remember_file(ul_request *request)
{
    struct stat status;
    if (fstat(request->fd, &status) < 0)
        return -errno;
    request->device = status.st_dev;
    request->inode = status.st_ino;
    return 0;
}

static int is_same_file(const ul_request *request)
{
    struct stat status;
    return fstat(request->fd, &status) == 0 && request->device == status.st_dev && request->inode == status.st_ino;
}

/* Has the request wait for its events; 0, or the errno of the descriptor or of epoll. */
int ul_watch(ul_request *request)
{
    ul_user *user = request->user;
    ul_watched *watched = ul_watched_at(user, request->fd);
    int error = watched == NULL ? request->fd < 0 ? -EBADF : -ENOMEM : 0;
    if (error == 0 && !request->owned && request->inode == 0)
        error = remember_file(request);
    if (error < 0)
        return error;
    request->state = UL_REQUEST_WAITING;
    ul_list_append(&watched->waiting, request);
    error = settle(user, request->fd, watched, request->tried ? request : NULL);
    if (error < 0)
        ul_list_remove(&watched->waiting, request);
    if (error != -EPERM)
        return error;
    request->event.events = request->events & ALWAYS_READY;
    request->is_always_ready = 1;
    ul_request_run_again(request);
    return 0;
}

/* The request waits no more.  An entry that does not switch itself off goes before its foreign descriptor may be
 * closed.
 */
void ul_unwatch(ul_request *request)
{
    ul_watched *watched = &request->user->watched[request->fd];
    ul_list_remove(&watched->waiting, request);
    if (!request->owned && watched->interest & EPOLLET && watched->waiting.first == NULL)
        take_out(request->user, request->fd, watched);
}

static int concerns(const ul_request *request, uint32_t events)
{
    return (request->events & events) != 0 || (events & (EPOLLERR | EPOLLHUP)) != 0;
}

/* An event of the set: its requests are to be tried again.  Returns one that is to be tried where it waits, or NULL. */
ul_request *ul_watch_event(ul_user *user, const struct epoll_event *event)
{
    uint32_t fd = (uint32_t)event->data.u64;
    if (fd >= user->watched_count || user->watched[fd].entry != (uint32_t)(event->data.u64 >> 32))
        return NULL; /* an earlier file of this number, of which there is a copy */
    ul_watched *watched = &user->watched[fd];
    ul_request *first = watched->waiting.first;
    int found = 0;
    if (first != NULL && first->owned && first->next == NULL && !(watched->interest & EPOLLONESHOT) &&
        concerns(first, event->events)) {
        watched->unheard = 0;
        first->event = *event;
        return first;
    }
    if (watched->interest & EPOLLONESHOT)
        watched->interest = 0;
    for (ul_request *request = first, *next; request != NULL; request = next) {
        next = request->next;
        if (!concerns(request, event->events))
            continue;
        found = 1;
        ul_list_remove(&watched->waiting, request);
        request->event = *event;
        request->lost_file = !request->owned && !is_same_file(request);
        request->state = UL_REQUEST_READY;
        ul_list_append(&user->ready, request);
    }
    if (watched->waiting.first != NULL && watched->interest == 0)
        settle(user, (int)fd, watched, NULL);
    else if (!found && watched->waiting.first != NULL)
        put(user, (int)fd, watched, wanted(watched, &found));
    else if (!found && watched->unheard++ > 0)
        take_out(user, (int)fd, watched);
    return NULL;
}

/* The events that poll(2) reports now. */
short ul_poll_now(int fd, short events)
{
    struct pollfd asked = {fd, events, 0};
    return poll(&asked, 1, 0) > 0 ? asked.revents : 0;
}

static void wake_lost(ul_user *user, ul_request *request)
{
    ul_list_remove(&user->watched[request->fd].waiting, request);
    request->lost_file = 1;
    request->state = UL_REQUEST_READY;
    ul_list_append(&user->ready, request);
    *user->ring->sq_flags |= IORING_SQ_TASKRUN;
}

/* Before a sleep, where no code but this looks: ends the requests whose descriptor was closed, or is another file's. */
void ul_watches_check(ul_user *user)
{
    for (ul_request *request = user->all; request != NULL; request = request->next_of_all) {
        if (request->state == UL_REQUEST_WAITING && !request->owned && !is_same_file(request))
            wake_lost(user, request);
    }
}

/* A request closes the descriptor: others that wait for it end. */
void ul_watch_lose(ul_user *user, int fd)
{
    ul_watch_closes(user, fd, 0);
    while (fd >= 0 && (uint32_t)fd < user->watched_count && user->watched[fd].waiting.first != NULL)
        wake_lost(user, user->watched[fd].waiting.first);
}

/* An owned descriptor is about to be closed.  If nothing else holds its file, that takes its entry out of the set. */
void ul_watch_closes(ul_user *user, int fd, int alone)
{
    if (fd < 0 || (uint32_t)fd >= user->watched_count)
        return;
    ul_watched *watched = &user->watched[fd];
    if (alone && watched->forks == load_relaxed(&forks))
        watched->in_set = watched->unheard = 0, watched->interest = 0;
    else
        take_out(user, fd, watched);
}

static void count_fork(void) { __atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED); }

/* Twice each: the second one counts for what another thread has opened since the first. */
static void count_forks(void) { pthread_atfork(count_fork, count_fork, NULL); }

/* Before the first ring. */
void ul_watches_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, count_forks);
}

void ul_watches_free(ul_user *user) { free(user->watched); }
