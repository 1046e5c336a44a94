/* The stream engine: a connected socket's receive, which arms itself again, and its ordered send queue.  A pipe is the
 * same with READ and WRITE in place of RECV and SEND; so are a FIFO, a tty, and whatever else poll(2) can watch.
 *
 * Receiving: with a buffer group one multishot receive serves the stream until it ends; without, one receive at a time
 * into the stream's own buffer.  A multishot receive ends whenever F_MORE is clear, for whatever reason, and is armed
 * again as long as bytes are wanted.  ENOBUFS means that the group is empty and the bytes wait in the socket: the stream
 * queues up and is armed again after the dispatch has recycled (and the group has grown, if it may).
 *
 * Sending: one SEND in flight, so that bytes keep their order.  Writes of one tick coalesce: the SQE is staged only when
 * the ring is about to be entered.  The next send starts from the completion of the last.  MSG_WAITALL, because a large
 * send otherwise returns short; MSG_NOSIGNAL, because a broken connection is an errno here and not a SIGPIPE.
 *
 * Pipes: where the kernel has READ_MULTISHOT (6.7), it serves a pipe as a multishot receive serves a socket.  On 6.18 a
 * READ or WRITE waits for a non-blocking pipe or tty as it does for a socket; older kernels answer EAGAIN there, and so
 * does any kernel where two writes to one tty meet.  Then a poll is put in its place, and it is tried again after that.
 * A pipe that is only written to polls in place of receiving: that tells when the reader has gone.
 *
 * Closing: a pending receive holds its socket (no FIN would be sent, and it would eat data), so it is cancelled, and the
 * stream is closed when nothing of it is in flight.  Under DEFER_TASKRUN a cancelled receive leaves data in the socket.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN_BUFFER_SIZE (64 * 1024)
#define DATAGRAM_SIZE (256 * 1024) /* as much as asyncio reads: the rest of a longer one would be lost */
#define SEND_MAX (1 << 30)
#define CURRENT_POSITION UINT64_MAX

struct ul_stream {
    ul_ring *ring;
    void *owner;
    int fd;
    uint32_t slot;
    uint64_t receive_token, send_token; /* 0: not in flight */
    ul_stream *next_to_send, *next_to_receive;
    uint8_t multishot, wanted, cancelling_receive, cancelling_send, queued_to_send, queued_to_receive;
    uint8_t closing, aborted, ended, eof_wanted, poll_first, notify_low, notify_empty;
    uint8_t own_lent; /* own_buffer holds bytes that Python has not taken yet */
    uint8_t pipe, datagrams, polls, watches, receive_polls, send_polls, poll_receive_first;
    uint32_t watched_events;

    ul_queue queue;
    size_t low_water;

    char *own_buffer;
};

/* flags: UL_OPEN_* */
ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags)
{
    ul_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL)
        return NULL;
    if (ul_slot_take(&ring->streams, stream, &stream->slot) < 0) {
        free(stream);
        return NULL;
    }
    stream->ring = ring;
    stream->owner = owner;
    stream->fd = fd;
    stream->multishot = flags & UL_OPEN_MULTISHOT && ring->buffers[UL_GROUP_STREAM].entries != NULL;
    stream->pipe = (flags & UL_OPEN_PIPE) != 0;
    stream->datagrams = (flags & UL_OPEN_DATAGRAMS) != 0;
    stream->polls = (flags & UL_OPEN_POLLS) != 0;
    stream->poll_receive_first = stream->poll_first = stream->polls;
    return stream;
}

/* --- receiving --- */

/* Own buffers are kept by the ring when their streams go: given back to malloc in thousands they fragment its heap. */
static int take_own_buffer(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    if (stream->datagrams) {
        stream->own_buffer = malloc(DATAGRAM_SIZE);
    } else if (ring->spare_buffers != NULL) {
        stream->own_buffer = ring->spare_buffers;
        memcpy(&ring->spare_buffers, stream->own_buffer, sizeof(char *));
    } else {
        stream->own_buffer = malloc(OWN_BUFFER_SIZE);
    }
    return stream->own_buffer == NULL ? -ENOMEM : 0;
}

static void give_own_buffer(ul_stream *stream)
{
    if (stream->datagrams)
        free(stream->own_buffer);
    if (stream->datagrams || stream->own_buffer == NULL)
        return;
    memcpy(stream->own_buffer, &stream->ring->spare_buffers, sizeof(char *));
    stream->ring->spare_buffers = stream->own_buffer;
}

static int stage_poll(ul_stream *stream, uint32_t events, uint32_t kind, uint64_t *token)
{
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = stream->fd;
    sqe->op_flags = events;
    *token = sqe->user_data = ul_slot_token(stream->ring, stream->slot, kind);
    return 0;
}

static void fill_receive(ul_stream *stream, struct io_uring_sqe *sqe)
{
    sqe->fd = stream->fd;
    sqe->off = stream->pipe ? CURRENT_POSITION : 0;
    if (stream->multishot) {
        sqe->opcode = stream->pipe ? IORING_OP_READ_MULTISHOT : IORING_OP_RECV;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = stream->pipe ? 0 : IORING_RECV_MULTISHOT;
    } else {
        sqe->opcode = stream->pipe ? IORING_OP_READ : IORING_OP_RECV;
        sqe->addr = (uint64_t)(uintptr_t)stream->own_buffer;
        sqe->len = stream->datagrams ? DATAGRAM_SIZE : OWN_BUFFER_SIZE;
    }
}

static int stage_receive(ul_stream *stream)
{
    int error;
    stream->cancelling_receive = 0;
    stream->receive_polls = stream->watches || stream->poll_receive_first;
    if (stream->receive_polls) {
        uint32_t events = stream->watches ? stream->watched_events : POLLIN;
        stream->poll_receive_first = 0;
        return stage_poll(stream, events, UL_KIND_RECEIVE, &stream->receive_token);
    }
    if (!stream->multishot && stream->own_buffer == NULL && take_own_buffer(stream) < 0)
        return -ENOMEM;
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    fill_receive(stream, sqe);
    stream->receive_token = sqe->user_data = ul_slot_token(stream->ring, stream->slot, UL_KIND_RECEIVE);
    return 0;
}

/* Receive from now on, until held. */
int ul_stream_receive(ul_stream *stream)
{
    if (stream->closing || stream->ended)
        return 0;
    stream->wanted = 1;
    if (stream->receive_token != 0 || stream->queued_to_receive || stream->own_lent)
        return 0; /* own_lent: ul_stream_recycle goes on */
    return stage_receive(stream);
}

/* Instead of receiving, from ul_stream_receive on: UL_STREAM_HANGUP comes when poll(2) reports one of the events, an error
 * or a hang-up. */
void ul_stream_watch(ul_stream *stream, uint32_t events)
{
    stream->watches = 1;
    stream->watched_events = events;
}

static int cancel_receive(ul_stream *stream)
{
    if (stream->receive_token == 0 || stream->cancelling_receive)
        return 0;
    stream->cancelling_receive = 1;
    return ul_stage_cancel(stream->ring, stream->receive_token);
}

/* Ask for no more; what the kernel had already taken from the socket still comes. */
int ul_stream_hold(ul_stream *stream)
{
    stream->wanted = 0;
    return cancel_receive(stream);
}

static void queue_to_receive(ul_stream *stream)
{
    if (stream->queued_to_receive)
        return;
    stream->queued_to_receive = 1;
    stream->next_to_receive = stream->ring->to_receive;
    stream->ring->to_receive = stream;
}

/* The bytes of a UL_STREAM_DATA event were taken. */
void ul_stream_recycle(ul_stream *stream, const ul_event *event)
{
    if (stream->multishot)
        ul_buffer_recycle(stream->ring, UL_GROUP_STREAM, event->buffer_id);
    else {
        stream->own_lent = 0;
        if (stream->wanted && stream->receive_token == 0)
            queue_to_receive(stream);
    }
}

static void complete_poll(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
{
    if (!stream->watches || cqe->res < 0) {
        if (stream->wanted)
            queue_to_receive(stream);
        return;
    }
    stream->wanted = 0;
    stream->ended = 1;
    if (!stream->closing) {
        event->what |= UL_STREAM_HANGUP;
        event->res = stream->queue.size > 0;
    }
}

/* Whether an end of file is that of a reset.  A socket tells of its reset once, and a send that has sent a part keeps
 * the news to itself.  A connection that the peer has merely ended is in CLOSE_WAIT. */
static int was_reset(ul_stream *stream)
{
    uint8_t state = 0;
    socklen_t size = sizeof(state);
    return ul_stream_queued(stream) > 0 && getsockopt(stream->fd, IPPROTO_TCP, TCP_INFO, &state, &size) == 0 &&
           state == TCP_CLOSE;
}

static void complete_receive(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
{
    ul_ring *ring = stream->ring;
    int ended = !(cqe->flags & IORING_CQE_F_MORE);
    if (ended)
        stream->receive_token = 0;
    if (stream->receive_polls) {
        complete_poll(stream, cqe, event);
        return;
    }
    stream->poll_receive_first = stream->polls || (stream->pipe && cqe->res == -EAGAIN);
    if (cqe->res > 0) {
        ring->statistics.bytes_received += (uint64_t)cqe->res;
        event->data = stream->own_buffer;
        if (stream->multishot) {
            event->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            event->data = ul_buffer_lend(ring, UL_GROUP_STREAM, event->buffer_id);
        }
        if (!stream->closing) {
            event->what |= UL_STREAM_DATA;
            stream->own_lent = !stream->multishot;
        } else if (stream->multishot)
            ul_buffer_recycle(ring, UL_GROUP_STREAM, event->buffer_id);
        if (ended && stream->multishot && stream->wanted) {
            ring->statistics.rearms++;
            queue_to_receive(stream);
        }
        return;
    }
    if (stream->multishot && cqe->flags & IORING_CQE_F_BUFFER) {
        ul_buffer_lend(ring, UL_GROUP_STREAM, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        ul_buffer_recycle(ring, UL_GROUP_STREAM, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (!ended)
        return;
    if (cqe->res == -ENOBUFS || cqe->res == -EINTR || cqe->res == -EAGAIN || cqe->res == -ECANCELED) {
        if (cqe->res == -ENOBUFS) {
            ring->statistics.no_buffers++;
            ul_buffers_grow(ring, UL_GROUP_STREAM);
        }
        if (stream->wanted)
            queue_to_receive(stream);
        return;
    }
    stream->wanted = 0;
    stream->ended = 1;
    if (cqe->res == 0 && was_reset(stream))
        event->res = -ECONNRESET;
    if (!stream->closing)
        event->what |= event->res == 0 ? UL_STREAM_EOF : UL_STREAM_RECEIVE_ERROR;
}

/* --- sending --- */

static void queue_to_send(ul_stream *stream)
{
    if (stream->queued_to_send || stream->send_token != 0)
        return;
    stream->queued_to_send = 1;
    stream->next_to_send = stream->ring->to_send;
    stream->ring->to_send = stream;
}

static void fill_send(ul_stream *stream, struct io_uring_sqe *sqe)
{
    size_t size;
    sqe->fd = stream->fd;
    sqe->addr = (uint64_t)(uintptr_t)ul_queue_head(&stream->queue, &size);
    sqe->len = size > SEND_MAX ? SEND_MAX : (uint32_t)size;
    if (stream->pipe) {
        sqe->opcode = IORING_OP_WRITE;
        sqe->off = CURRENT_POSITION;
    } else {
        sqe->opcode = IORING_OP_SEND;
        sqe->op_flags = MSG_NOSIGNAL | MSG_WAITALL;
        sqe->ioprio = stream->poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
    }
}

static int stage_send(ul_stream *stream)
{
    int error;
    stream->cancelling_send = 0;
    stream->send_polls = stream->pipe && stream->poll_first;
    if (stream->send_polls) {
        stream->poll_first = 0;
        return stage_poll(stream, POLLOUT, UL_KIND_SEND, &stream->send_token);
    }
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    fill_send(stream, sqe);
    stream->poll_first = 0;
    stream->send_token = sqe->user_data = ul_slot_token(stream->ring, stream->slot, UL_KIND_SEND);
    return 0;
}

/* Queues a copy of the bytes. */
int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes)
{
    int error = ul_queue_copy(stream->ring, &stream->queue, data, size_bytes, stream->send_token != 0);
    if (error == 0)
        queue_to_send(stream);
    return error;
}

/* Queues the caller's memory, which must not change or move until its pin comes out of ul_stream_released. */
int ul_stream_write_pinned(ul_stream *stream, const void *data, size_t size_bytes, void *pin)
{
    int error = ul_queue_pin(&stream->queue, data, size_bytes, pin);
    if (error == 0)
        queue_to_send(stream);
    return error;
}

/* What the socket or (non-blocking) pipe takes right now, without the ring; 0 also if it refuses. */
static size_t send_at_once(ul_stream *stream, const void *data, size_t size_bytes)
{
    ssize_t sent = stream->pipe ? write(stream->fd, data, size_bytes)
                                : send(stream->fd, data, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0)
        return 0;
    stream->ring->statistics.bytes_sent += (uint64_t)sent;
    return (size_t)sent;
}

/* The same for an idle stream; 0 if anything is queued or the send fails, since the queued send then tells why. */
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes)
{
    return stream->queue.size > 0 || stream->closing ? 0 : send_at_once(stream, data, size_bytes);
}

/* The next pin whose memory the kernel is done with, or NULL. */
void *ul_stream_released(ul_stream *stream) { return ul_queue_released(&stream->queue); }

size_t ul_stream_queued(ul_stream *stream) { return stream->queue.size; }

void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes)
{
    stream->notify_low = 1;
    stream->low_water = low_water_bytes;
}

void ul_stream_notify_empty(ul_stream *stream) { stream->notify_empty = 1; }

static void drop_queue(ul_stream *stream) { ul_queue_drop(stream->ring, &stream->queue); }

static void complete_send(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
{
    stream->send_token = 0;
    if (stream->aborted) {
        drop_queue(stream);
        return;
    }
    if (stream->send_polls) {
        queue_to_send(stream);
        return;
    }
    stream->poll_first = stream->polls || cqe->res == -EAGAIN;
    if (cqe->res >= 0) {
        stream->ring->statistics.bytes_sent += (uint64_t)cqe->res;
        ul_queue_sent(stream->ring, &stream->queue, (size_t)cqe->res);
    } else if (cqe->res != -EINTR && cqe->res != -EAGAIN) {
        drop_queue(stream);
        event->what |= UL_STREAM_SEND_ERROR;
        return;
    }
    if (stream->queue.size > 0) {
        queue_to_send(stream);
    } else {
        if (stream->eof_wanted)
            shutdown(stream->fd, SHUT_WR);
        if (stream->notify_empty)
            event->what |= UL_STREAM_EMPTY;
        stream->notify_empty = 0;
    }
    if (stream->notify_low && stream->queue.size <= stream->low_water) {
        stream->notify_low = 0;
        event->what |= UL_STREAM_LOW;
    }
}

/* --- both --- */

int ul_streams_waiting(ul_ring *ring) { return ring->to_send != NULL || ring->to_receive != NULL; }

/* Stages what queued up during the dispatch. */
int ul_streams_stage(ul_ring *ring)
{
    while (ring->to_receive != NULL) {
        ul_stream *stream = ring->to_receive;
        if (stream->wanted && stream->receive_token == 0) {
            int error = stage_receive(stream);
            if (error < 0)
                return error;
        }
        ring->to_receive = stream->next_to_receive;
        stream->queued_to_receive = 0;
    }
    while (ring->to_send != NULL) {
        ul_stream *stream = ring->to_send;
        if (stream->queue.size > 0 && stream->send_token == 0) {
            int error = stage_send(stream);
            if (error < 0)
                return error;
        }
        ring->to_send = stream->next_to_send;
        stream->queued_to_send = 0;
    }
    return 0;
}

int ul_stream_quiet(ul_stream *stream)
{
    return stream->receive_token == 0 && stream->send_token == 0 && stream->queue.size == 0;
}

/* One CQE of a stream; 1 if there is something that Python must hear. */
int ul_stream_complete(ul_ring *ring, const struct io_uring_cqe *cqe, ul_event *event)
{
    ul_stream *stream = ul_slot_find(&ring->streams, cqe->user_data);
    if (stream == NULL)
        return 0;
    event->what = 0;
    event->res = cqe->res;
    event->flags = cqe->flags;
    event->owner = stream->owner;
    if (cqe->user_data == stream->receive_token)
        complete_receive(stream, cqe, event);
    else if (cqe->user_data == stream->send_token)
        complete_send(stream, cqe, event);
    else
        return 0;
    if (stream->queue.released != NULL)
        event->what |= UL_STREAM_RELEASED;
    if (stream->closing && ul_stream_quiet(stream))
        event->what |= UL_STREAM_CLOSED;
    return event->what != 0;
}

/* Shuts the sending side down once the queue is sent. */
int ul_stream_write_eof(ul_stream *stream)
{
    stream->eof_wanted = 1;
    if (stream->queue.size == 0 && shutdown(stream->fd, SHUT_WR) < 0)
        return -errno;
    return 0;
}

/* Stops receiving and sends what is queued.  1 if the stream is closed at once, else UL_STREAM_CLOSED comes. */
int ul_stream_close(ul_stream *stream)
{
    stream->closing = 1;
    stream->wanted = 0;
    if (stream->ring->forgotten) {
        /* In a forked child: what is in flight is the parent's, and what is queued the parent sends. */
        stream->receive_token = stream->send_token = 0;
        drop_queue(stream);
    }
    int error = cancel_receive(stream);
    return error < 0 ? error : ul_stream_quiet(stream);
}

/* asyncio's write has sent by then what the socket takes; and what protocols write last, before they abort, says why. */
static void send_queue_at_once(ul_stream *stream)
{
    size_t size = 0, sent = 0;
    while (stream->queue.head != NULL && sent == size) {
        const char *data = ul_queue_head(&stream->queue, &size);
        sent = send_at_once(stream, data, size);
        ul_queue_sent(stream->ring, &stream->queue, sent);
    }
}

/* The same without waiting: what the socket does not take at once is dropped, a send under way is cancelled. */
int ul_stream_abort(ul_stream *stream)
{
    stream->aborted = 1;
    if (stream->send_token == 0) {
        if (!stream->ring->forgotten)
            send_queue_at_once(stream);
        drop_queue(stream);
    } else if (!stream->cancelling_send) {
        stream->cancelling_send = 1;
        int error = ul_stage_cancel(stream->ring, stream->send_token);
        if (error < 0)
            return error;
    }
    return ul_stream_close(stream);
}

static void unlink_stream(ul_ring *ring, ul_stream *stream)
{
    ul_stream **link = &ring->to_send;
    while (stream->queued_to_send && *link != stream)
        link = &(*link)->next_to_send;
    if (stream->queued_to_send)
        *link = stream->next_to_send;
    link = &ring->to_receive;
    while (stream->queued_to_receive && *link != stream)
        link = &(*link)->next_to_receive;
    if (stream->queued_to_receive)
        *link = stream->next_to_receive;
}

/* Only when nothing of it is in flight. */
void ul_stream_free(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    unlink_stream(ring, stream);
    ul_slot_give_back(&ring->streams, stream->slot);
    ul_queue_free(&stream->queue);
    give_own_buffer(stream);
    free(stream);
}

void ul_streams_close(ul_ring *ring)
{
    for (uint32_t slot = 0; slot < ring->streams.count; slot++)
        if (ring->streams.entries[slot] != NULL)
            ul_stream_free(ring->streams.entries[slot]);
    ul_queue_free_spare(ring);
    while (ring->spare_buffers != NULL) {
        char *buffer = ring->spare_buffers;
        memcpy(&ring->spare_buffers, buffer, sizeof(char *));
        free(buffer);
    }
    ul_slots_close(&ring->streams);
}
