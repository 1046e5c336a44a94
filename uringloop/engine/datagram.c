/* The datagram engine: a datagram socket's receive, which arms itself again, and its send queue.
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
 *
 * Sending: at once, by sendto(2), as asyncio does.  A datagram that the socket refuses waits here, and all later ones
 * behind it, so the order is kept.  SQEs gain nothing.  Measured: 32 clients on one socket, 1 KiB, CPU time of a bare C
 * echo a datagram (Linux 6.18, six runs).  sendto took 3.5 to 4.4 us, a SEND SQE each 3.6 to 4.4, one sendmmsg a
 * tick 3.5 to 4.4.  SQEs in one submit also overtake each other when one of them meets a full socket; linked, which
 * forbids that, they took 4.7 to 5.5.
 *
 * The queue: a poll waits for room, then sendto goes on until the socket is full again or refuses a datagram.  A SEND
 * or SENDMSG that waits by itself does not serve.  The kernel may find the socket full after it has copied the
 * datagram: the receiver's queue of a unix socket, by its sources also UDP in fragments.  Its second attempt then sends
 * the uncopied rest, and the receiver gets an empty datagram [measured on 6.18].  poll reports room in an unconnected
 * unix socket whose receiver is full, so a refused sendto is tried again a little later.
 */
#define _GNU_SOURCE
#include "../ring/core/internal.h"
#include "engine.h"
#include "turns.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RETRY_NS 1000000

typedef struct ul_packet ul_packet;

struct ul_packet {
    ul_packet *next;
    size_t size;
    uint32_t name_size;
    char name[UL_NAME_SIZE];
    char data[];
};

typedef struct {
    ul_engine base;
    ul_slots datagrams;
    ul_datagram *to_send; /* with datagrams queued and no retry staged */
    ul_turns to_receive;  /* that want datagrams and have no receive staged */
} ul_datagram_engine;

struct ul_datagram {
    ul_turn turn;
    ul_ring *ring;
    ul_datagram_engine *engine;
    void *owner;
    int fd;
    uint32_t slot, overhead;
    uint64_t receive_token, send_token; /* 0: not in flight */
    ul_datagram *next_to_send;
    uint8_t multishot, wanted, cancelling_receive, cancelling_send, queued_to_send;
    uint8_t closing, aborted, notify_low, poll_lied;
    uint8_t by_readiness, receive_polls; /* once, though it has a group; a poll is in flight */

    ul_packet *head, *tail;
    size_t queued, low_water;
};

_Static_assert(UL_DATAGRAM_BUFFER_SIZE == sizeof(struct io_uring_recvmsg_out) + UL_NAME_SIZE + UL_DATAGRAM_SIZE_MAX,
               "datagram buffer");
_Static_assert(UL_NAME_SIZE >= sizeof(struct sockaddr_storage), "address size");

/* --- receiving --- */

static int stage_receive(ul_datagram *datagram)
{
    static const struct msghdr room_for_name = {.msg_namelen = UL_NAME_SIZE};
    ul_ring *ring = datagram->ring;
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
    if (sqe == NULL)
        return error;
    sqe->fd = datagram->fd;
    datagram->receive_polls = !datagram->multishot || datagram->by_readiness;
    if (datagram->receive_polls) {
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->op_flags = POLLIN;
    } else {
        sqe->opcode = IORING_OP_RECVMSG;
        sqe->len = 1;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = IORING_RECV_MULTISHOT;
        sqe->buf_index = UL_GROUP_DATAGRAM;
        sqe->addr = (uint64_t)(uintptr_t)&room_for_name;
    }
    datagram->receive_token = sqe->user_data = ul_slot_token(ring, datagram->slot, UL_KIND_DATAGRAM_RECEIVE);
    datagram->cancelling_receive = 0;
    return 0;
}

/* Receive from now on, until held. */
int ul_datagram_receive(ul_datagram *datagram)
{
    if (datagram->closing)
        return 0;
    datagram->wanted = 1;
    if (datagram->receive_token != 0 || datagram->turn.turns != NULL)
        return 0;
    return stage_receive(datagram);
}

static int cancel_receive(ul_datagram *datagram)
{
    if (datagram->receive_token == 0 || datagram->cancelling_receive)
        return 0;
    datagram->cancelling_receive = 1;
    return ul_stage_cancel(datagram->ring, datagram->receive_token);
}

/* Takes no more from the socket from the next enter on; datagrams taken before still come.  Returns whether a receive
 * is being cancelled for that. */
int ul_datagram_hold(ul_datagram *datagram)
{
    datagram->wanted = 0;
    if (datagram->receive_token == 0 || datagram->receive_polls)
        return 0;
    int error = cancel_receive(datagram);
    return error < 0 ? error : 1;
}

static void queue_to_receive(ul_datagram *datagram)
{
    if (datagram->wanted)
        ul_turn_wait(&datagram->engine->to_receive, &datagram->turn);
}

/* Recycles the buffer of a UL_DATAGRAM_DATA outcome. */
void ul_datagram_recycle(ul_datagram *datagram, const ul_outcome *outcome)
{
    ul_buffer_recycle(datagram->ring, UL_GROUP_DATAGRAM, outcome->buffer_id, datagram);
}

/* Takes a datagram that is there, after UL_DATAGRAM_READABLE, into UL_DATAGRAM_BUFFER_SIZE bytes: 1, or a negative
 * errno. EAGAIN: there is none, and the next UL_DATAGRAM_READABLE comes as always; every other is of a datagram sent
 * earlier. */
int ul_datagram_take(ul_datagram *datagram, void *buffer)
{
    struct io_uring_recvmsg_out *out = buffer;
    char *name = (char *)(out + 1);
    struct iovec vector = {name + UL_NAME_SIZE, UL_DATAGRAM_SIZE_MAX};
    struct msghdr message = {.msg_name = name, .msg_namelen = UL_NAME_SIZE, .msg_iov = &vector, .msg_iovlen = 1};
    if (!datagram->wanted)
        return -EAGAIN;
    datagram->by_readiness = 0;
    ssize_t size = recvmsg(datagram->fd, &message, MSG_DONTWAIT);
    int error = size < 0 ? -errno : 0;
    if (datagram->receive_token == 0)
        queue_to_receive(datagram);
    if (error < 0)
        return error == -EINTR ? -EAGAIN : error;
    datagram->ring->statistics.bytes_received += (uint64_t)size;
    out->namelen = message.msg_namelen;
    out->payloadlen = (uint32_t)size;
    out->flags = (uint32_t)message.msg_flags;
    out->controllen = 0;
    return 1;
}

static void take_datagram(ul_datagram *datagram, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = datagram->ring;
    outcome->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    outcome->data = ul_buffer_lend(ring, UL_GROUP_DATAGRAM, outcome->buffer_id, datagram);
    struct io_uring_recvmsg_out out;
    memcpy(&out, outcome->data, sizeof(out));
    ring->statistics.bytes_received += out.payloadlen;
    if (!datagram->closing)
        outcome->what |= UL_DATAGRAM_DATA;
    else
        ul_datagram_recycle(datagram, outcome);
}

static void complete_receive(ul_datagram *datagram, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = datagram->ring;
    int ended = !(cqe->flags & IORING_CQE_F_MORE);
    if (ended)
        datagram->receive_token = 0;
    if (datagram->receive_polls) {
        if (cqe->res == -ECANCELED || cqe->res == -EINTR)
            queue_to_receive(datagram);
        else if (datagram->wanted)
            outcome->what |= UL_DATAGRAM_READABLE;
        return;
    }
    if (cqe->res >= 0 && cqe->flags & IORING_CQE_F_BUFFER) {
        take_datagram(datagram, cqe, outcome);
        ring->statistics.rearms += ended;
    } else if (cqe->res == -ENOBUFS) {
        ring->statistics.no_buffers++;
        datagram->by_readiness = 1;
        ul_buffers_found_empty(ring, UL_GROUP_DATAGRAM);
    } else if (cqe->res < 0 && cqe->res != -EINTR && cqe->res != -EAGAIN && cqe->res != -ECANCELED) {
        if (!datagram->closing)
            outcome->what |= UL_DATAGRAM_RECEIVE_ERROR;
    }
    if (ended)
        queue_to_receive(datagram);
}

/* --- sending --- */

static int send_at_once(ul_datagram *datagram, const void *data, size_t size, const void *name, uint32_t name_size)
{
    ssize_t sent = sendto(datagram->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, name_size ? name : NULL, name_size);
    if (sent < 0)
        return -errno;
    datagram->ring->statistics.bytes_sent += (uint64_t)sent;
    return 0;
}

static void queue_to_send(ul_datagram *datagram)
{
    if (datagram->queued_to_send || datagram->send_token != 0)
        return;
    datagram->queued_to_send = 1;
    datagram->next_to_send = datagram->engine->to_send;
    datagram->engine->to_send = datagram;
}

static int append(ul_datagram *datagram, const void *data, size_t size, const void *name, uint32_t name_size)
{
    ul_packet *packet = malloc(sizeof(*packet) + size);
    if (packet == NULL)
        return -ENOMEM;
    packet->next = NULL;
    packet->size = size;
    packet->name_size = name_size;
    if (name_size > 0)
        memcpy(packet->name, name, name_size);
    if (size > 0)
        memcpy(packet->data, data, size);
    if (datagram->tail != NULL)
        datagram->tail->next = packet;
    else
        datagram->head = packet;
    datagram->tail = packet;
    datagram->queued += size + datagram->overhead;
    queue_to_send(datagram);
    return 0;
}

static void drop_head(ul_datagram *datagram)
{
    ul_packet *packet = datagram->head;
    datagram->head = packet->next;
    if (datagram->head == NULL)
        datagram->tail = NULL;
    datagram->queued -= packet->size + datagram->overhead;
    free(packet);
}

static void drop_queue(ul_datagram *datagram)
{
    while (datagram->head != NULL)
        drop_head(datagram);
}

/* Sends a datagram, or queues a copy of it behind those that wait: 0, 1 if it was queued, or a negative errno.
 * Without a name (name_size 0) it goes to the peer of a connected socket. */
int ul_datagram_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name, uint32_t name_size,
                     int may_queue)
{
    int error = -EAGAIN;
    if (datagram->head == NULL)
        error = send_at_once(datagram, data, size_bytes, name, name_size);
    if (error != -EAGAIN || !may_queue)
        return error;
    error = append(datagram, data, size_bytes, name, name_size);
    return error < 0 ? error : 1;
}

/* Waits until the head of the queue may be tried again. */
static int stage_retry(ul_datagram *datagram)
{
    static const struct ul_timespec a_while = {0, RETRY_NS};
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(datagram->ring, &error);
    if (sqe == NULL)
        return error;
    if (datagram->poll_lied) {
        sqe->opcode = IORING_OP_TIMEOUT;
        sqe->addr = (uint64_t)(uintptr_t)&a_while;
        sqe->len = 1;
        sqe->fd = -1;
    } else {
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->fd = datagram->fd;
        sqe->op_flags = POLLOUT;
    }
    datagram->send_token = sqe->user_data = ul_slot_token(datagram->ring, datagram->slot, UL_KIND_DATAGRAM_SEND);
    datagram->cancelling_send = 0;
    return 0;
}

/* Sends what is queued until the socket is full: 0, or the errno of the datagram that it refused, which is dropped. */
static int send_queue(ul_datagram *datagram)
{
    while (datagram->head != NULL) {
        ul_packet *packet = datagram->head;
        int error = send_at_once(datagram, packet->data, packet->size, packet->name, packet->name_size);
        if (error == -EAGAIN)
            return 0;
        drop_head(datagram);
        if (error < 0)
            return error;
    }
    return 0;
}

static void complete_retry(ul_datagram *datagram, ul_outcome *outcome)
{
    size_t before = datagram->queued;
    datagram->send_token = 0;
    if (datagram->aborted)
        return;
    int error = send_queue(datagram);
    if (error < 0) {
        outcome->res = error;
        outcome->what |= UL_DATAGRAM_SEND_ERROR;
    }
    datagram->poll_lied = error == 0 && datagram->queued == before;
    if (datagram->head != NULL)
        queue_to_send(datagram);
    if (datagram->notify_low && datagram->queued <= datagram->low_water) {
        datagram->notify_low = 0;
        outcome->what |= UL_DATAGRAM_LOW;
    }
}

/* Bytes queued, with the overhead of each datagram. */
size_t ul_datagram_queued(ul_datagram *datagram) { return datagram->queued; }

void ul_datagram_notify_low(ul_datagram *datagram, size_t low_water_bytes)
{
    datagram->notify_low = 1;
    datagram->low_water = low_water_bytes;
}

/* --- both --- */

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
    while ((datagram = (ul_datagram *)engine->to_receive.first) != NULL) {
        if (datagram->wanted && datagram->receive_token == 0) {
            int error = stage_receive(datagram);
            if (error < 0)
                return error;
        }
        ul_turn_end(&datagram->turn);
    }
    while (engine->to_send != NULL) {
        ul_datagram *datagram = engine->to_send;
        if (datagram->head != NULL && datagram->send_token == 0) {
            int error = stage_retry(datagram);
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
    return datagram->receive_token == 0 && datagram->send_token == 0 && datagram->head == NULL;
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
        complete_receive(datagram, cqe, outcome);
    else if (cqe->user_data == datagram->send_token)
        complete_retry(datagram, outcome);
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
        drop_queue(datagram);
    }
    int error = cancel_receive(datagram);
    return error < 0 ? error : ul_datagram_idle(datagram);
}

/* The same without sending: the queue is dropped. */
int ul_datagram_abort(ul_datagram *datagram)
{
    datagram->aborted = 1;
    drop_queue(datagram);
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
    drop_queue(datagram);
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
    engine->base = (ul_engine){complete_datagram, stage_datagrams, datagrams_waiting,
                               count_datagrams,   close_engine,    NULL};
    ul_ring_add_engine(ring, &engine->base, UL_KIND_DATAGRAM_RECEIVE, 2);
    return engine;
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
    return datagram;
}
