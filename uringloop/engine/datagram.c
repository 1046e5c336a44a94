/* The datagram engine: a datagram socket's receive, which arms itself again (datagram_receive.c), and its send queue
 * (datagram_send.c).
 *
 * Receiving: one multishot recvmsg serves the socket; the kernel writes the sender's address before each datagram.  The
 * kernel cuts a datagram to its buffer.  So the buffers of this group are as large as asyncio's: 256 KiB of address
 * space each, of which only touched pages are memory.  Their length is no multiple of a page, so that their first bytes
 * do not compete for the same lines of the cache.  An error (ECONNREFUSED of an earlier datagram) ends the multishot
 * receive, but not the receiving.
 *
 * A socket that finds the group empty, and each socket without a group, receives by readiness.  A poll reports a
 * datagram, and recvmsg(2) takes it when the dispatch comes to the socket.  It takes it into memory that all sockets
 * share, in the same layout.  See stream_receive.c.
 */
#define _GNU_SOURCE
#include "datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

_Static_assert(UL_DATAGRAM_HEAD_SIZE == sizeof(struct io_uring_recvmsg_out) + UL_NAME_SIZE, "datagram head");
_Static_assert(UL_NAME_SIZE >= sizeof(struct sockaddr_storage), "address size");

static int datagrams_waiting(const ul_engine *base)
{
    const ul_datagram_engine *engine = (const ul_datagram_engine *)base;
    return engine->to_send != NULL || engine->to_receive.first != NULL;
}

/* Stages what queued up during the dispatch. */
static int stage_datagrams(ul_engine *base)
{
    ul_datagram_engine *engine = (ul_datagram_engine *)base;
    ul_datagram *datagram;
    engine->batch++;
    while ((datagram = (ul_datagram *)engine->to_receive.first) != NULL) {
        if (datagram->wanted && datagram->receive_token == 0) {
            int error = ul_datagram_stage_receive(datagram);
            if (error < 0)
                return error;
        }
        ul_turn_end(&datagram->turn);
    }
    while (engine->to_send != NULL) {
        ul_datagram *datagram = engine->to_send;
        ul_datagram_send_held(datagram);
        if ((datagram->head != NULL || datagram->send_error < 0) && datagram->send_token == 0) {
            int error = ul_datagram_stage_retry(datagram);
            if (error < 0)
                return error;
        }
        engine->to_send = datagram->next_to_send;
        datagram->queued_to_send = 0;
    }
    return 0;
}

int ul_datagram_idle(ul_datagram *datagram)
{
    return datagram->receive_token == 0 && datagram->send_token == 0 && datagram->head == NULL &&
           datagram->send_error == 0;
}

/* One CQE of a datagram socket; 1 if there is something that Python must hear. */
static int complete_datagram(ul_engine *base, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    const ul_datagram_engine *engine = (const ul_datagram_engine *)base;
    ul_datagram *datagram = ul_slot_find(&engine->datagrams, cqe->user_data);
    if (datagram == NULL)
        return 0;
    outcome->what = 0;
    outcome->res = cqe->res;
    outcome->flags = cqe->flags;
    outcome->owner = datagram->owner;
    if (cqe->user_data == datagram->receive_token)
        ul_datagram_complete_receive(datagram, cqe, outcome);
    else if (cqe->user_data == datagram->send_token)
        ul_datagram_complete_retry(datagram, outcome);
    else
        return 0;
    if (datagram->closing && ul_datagram_idle(datagram))
        outcome->what |= UL_DATAGRAM_CLOSED;
    return outcome->what != 0;
}

/* Stops receiving and sends what is queued.  1 if the socket is idle at once, else UL_DATAGRAM_CLOSED comes. */
int ul_datagram_close(ul_datagram *datagram)
{
    datagram->closing = 1;
    datagram->wanted = 0;
    if (datagram->ring->dropped) {
        /* In a forked child: operations in flight are the parent's, and the parent sends the queue. */
        datagram->receive_token = datagram->send_token = 0;
        ul_datagram_drop_queue(datagram);
    }
    int error = ul_datagram_cancel_receive(datagram);
    return error < 0 ? error : ul_datagram_idle(datagram);
}

/* The same without sending: the queue is dropped. */
int ul_datagram_abort(ul_datagram *datagram)
{
    datagram->aborted = 1;
    datagram->send_error = 0;
    ul_datagram_drop_queue(datagram);
    if (datagram->send_token != 0 && !datagram->cancelling_send) {
        datagram->cancelling_send = 1;
        int error = ul_stage_cancel(datagram->ring, datagram->send_token);
        if (error < 0)
            return error;
    }
    return ul_datagram_close(datagram);
}

static void unlink_datagram(ul_datagram *datagram)
{
    ul_datagram_engine *engine = datagram->engine;
    ul_datagram **link = &engine->to_send;
    while (datagram->queued_to_send && *link != datagram)
        link = &(*link)->next_to_send;
    if (datagram->queued_to_send)
        *link = datagram->next_to_send;
    ul_turn_end(&datagram->turn);
}

/* Only when nothing of it is in flight. */
void ul_datagram_free(ul_datagram *datagram)
{
    unlink_datagram(datagram);
    ul_slot_release(&datagram->engine->datagrams, datagram->slot);
    ul_datagram_drop_queue(datagram);
    free(datagram);
}

/* --- the engine --- */

static void count_datagrams(const ul_engine *base, ul_statistics *out)
{
    const ul_datagram_engine *engine = (const ul_datagram_engine *)base;
    out->datagrams = engine->datagrams.count - engine->datagrams.free_count;
}

static void close_engine(ul_engine *base)
{
    ul_datagram_engine *engine = (ul_datagram_engine *)base;
    for (uint32_t slot = 0; slot < engine->datagrams.count; slot++)
        if (engine->datagrams.entries[slot] != NULL)
            ul_datagram_free(engine->datagrams.entries[slot]);
    ul_slots_close(&engine->datagrams);
    free(engine);
}

/* The engine of a ring, made if it is not there; NULL if there is no memory. */
static ul_datagram_engine *need_engine(ul_ring *ring)
{
    ul_datagram_engine *engine = (ul_datagram_engine *)ring->engines[UL_KIND_DATAGRAM_RECEIVE];
    if (engine != NULL)
        return engine;
    engine = calloc(1, sizeof(*engine));
    if (engine == NULL)
        return NULL;
    engine->base = (ul_engine){
        complete_datagram, stage_datagrams, datagrams_waiting, count_datagrams, close_engine, NULL, NULL};
    ul_ring_add_engine(ring, &engine->base, UL_KIND_DATAGRAM_RECEIVE, 2);
    return engine;
}

static int is_udp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof(protocol);
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_UDP;
}

/* overhead_bytes: the count of a queued datagram beside its own size. */
ul_datagram *ul_datagram_open(ul_ring *ring, int fd, void *owner, int multishot, uint32_t overhead_bytes)
{
    ul_datagram_engine *engine = need_engine(ring);
    ul_datagram *datagram = engine != NULL ? calloc(1, sizeof(*datagram)) : NULL;
    if (datagram == NULL)
        return NULL;
    datagram->multishot = multishot && ring->buffers[UL_GROUP_DATAGRAM].entries != NULL;
    if (ul_slot_take(&engine->datagrams, datagram, &datagram->slot) < 0) {
        free(datagram);
        return NULL;
    }
    ul_descriptor_closes(ring, fd, 0); /* an earlier file of this number may have been closed unseen */
    datagram->ring = ring;
    datagram->engine = engine;
    datagram->owner = owner;
    datagram->fd = fd;
    datagram->overhead = overhead_bytes;
    datagram->udp = is_udp(fd) != 0;
    datagram->control_size = datagram->udp ? UL_CONTROL_SIZE : 0;
    return datagram;
}
