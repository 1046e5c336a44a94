/* The sending half of the stream engine (stream.c).
 *
 * The owner decides for each write: it goes to the socket at once, by send(2), or it waits in the queue and leaves
 * together with the writes of other streams.  A send(2) never overtakes the queue.  Queued bytes leave by SENDs: one in
 * flight, so that bytes keep their order, staged only when the ring is about to be entered.  When one has completed,
 * more is sent at once, so that no byte waits for a second tick while its socket has room.  MSG_WAITALL, because a
 * large send otherwise returns short; MSG_NOSIGNAL, because a broken connection is an errno here and not a SIGPIPE.
 *
 * The last bytes of a server's connection and its FIN are one packet (stream.c), if the bytes wait for the close.  They
 * wait, at most until their callback ends, where the last connections were all closed by the callback that had
 * answered.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_MAX (1 << 30)
#define SHORT_ANSWERS 16 /* so many connections in a row foretell the next */

static void queue_to_send(ul_stream *stream)
{
    if (stream->queued_to_send || stream->send_token != 0)
        return;
    stream->queued_to_send = 1;
    stream->next_to_send = stream->engine->to_send;
    stream->engine->to_send = stream;
}

static void fill_send(ul_stream *stream, struct io_uring_sqe *sqe)
{
    size_t size;
    sqe->fd = stream->fd;
    sqe->addr = (uint64_t)(uintptr_t)ul_queue_head(&stream->queue, &size);
    /* Not of a paused protocol: it may write more when it is resumed. */
    stream->sends_last = stream->own_tcp && stream->closing && size == stream->queue.size && !stream->notify_low;
    sqe->len = size > SEND_MAX ? SEND_MAX : (uint32_t)size;
    if (stream->pipe) {
        sqe->opcode = IORING_OP_WRITE;
        sqe->off = CURRENT_POSITION;
    } else {
        sqe->opcode = IORING_OP_SEND;
        sqe->op_flags = MSG_NOSIGNAL | MSG_WAITALL | (stream->sends_last ? MSG_MORE : 0);
        sqe->ioprio = stream->poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
    }
}

int ul_stream_stage_send(ul_stream *stream)
{
    int error;
    stream->cancelling_send = 0;
    stream->send_polls = stream->pipe && stream->poll_first;
    if (stream->send_polls) {
        stream->poll_first = 0;
        return ul_stream_stage_poll(stream, POLLOUT, UL_KIND_STREAM_SEND, &stream->send_token);
    }
    struct io_uring_sqe *sqe = ul_next_sqe(ring_of(stream), &error);
    if (sqe == NULL)
        return error;
    fill_send(stream, sqe);
    stream->poll_first = 0;
    stream->send_token = sqe->user_data = ul_slot_token(ring_of(stream), stream->slot, UL_KIND_STREAM_SEND);
    return 0;
}

/* The number of enters tells one batch of writes from the next. */
static uint32_t batch(const ul_stream *stream) { return (uint32_t)ring_of(stream)->statistics.enters; }

/* The stream was not closed right after its first bytes. */
static void goes_on(ul_stream *stream)
{
    stream->goes_on = 1;
    stream->engine->short_answers = 0;
}

static void note_write(ul_stream *stream)
{
    if (!stream->own_tcp || stream->goes_on)
        return;
    if (stream->wrote && stream->first_batch != batch(stream))
        goes_on(stream);
    stream->wrote = 1;
    stream->first_batch = batch(stream);
}

/* The stream is being closed. */
void ul_stream_note_close(ul_stream *stream)
{
    if (!stream->own_tcp || stream->goes_on || !stream->wrote)
        return;
    if (stream->first_batch != batch(stream))
        goes_on(stream);
    else if (stream->engine->short_answers < SHORT_ANSWERS)
        stream->engine->short_answers++;
}

/* Whether what is written next had better wait for the end of the callback, which is likely to close the stream. */
int ul_stream_may_be_last(ul_stream *stream)
{
    return stream->own_tcp && stream->engine->short_answers >= SHORT_ANSWERS && !stream->goes_on &&
           (!stream->wrote || stream->first_batch == batch(stream));
}

/* Queues a copy of the bytes. */
int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes)
{
    note_write(stream);
    int error = ul_queue_copy(&stream->engine->freelist, &stream->queue, data, size_bytes, stream->send_token != 0);
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

/* The result of a send(2); the number of bytes, 0 if it failed. */
static size_t note_sent(ul_stream *stream, ssize_t sent)
{
    if (sent < 0 && !stream->pipe && errno != EAGAIN && errno != EINTR && errno != EPIPE)
        stream->send_error = -errno; /* a socket tells of it once: the queued send finds a broken pipe */
    if (sent <= 0)
        return 0;
    ring_of(stream)->statistics.bytes_sent += (uint64_t)sent;
    return (size_t)sent;
}

/* What the socket or (non-blocking) pipe takes right now, without the ring; 0 also if it refuses. */
static size_t send_at_once(ul_stream *stream, const void *data, size_t size_bytes)
{
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (stream->sends_last ? MSG_MORE : 0);
    return note_sent(stream,
                     stream->pipe ? write(stream->fd, data, size_bytes) : send(stream->fd, data, size_bytes, flags));
}

/* The same for an idle stream; 0 if anything is queued or the send fails, since the queued send then tells why. */
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes)
{
    if (stream->queue.size > 0 || stream->closing)
        return 0;
    note_write(stream);
    return send_at_once(stream, data, size_bytes);
}

/* The same of the queue, of which nothing is in flight.  pinned: also memory, which the owner then releases. */
void ul_stream_send_chunks(ul_stream *stream, int pinned)
{
    size_t size = 0, sent = 0;
    while (stream->queue.head != NULL && sent == size && (pinned || !ul_queue_begins_pinned(&stream->queue))) {
        const char *data = ul_queue_head(&stream->queue, &size);
        sent = send_at_once(stream, data, size);
        ul_queue_sent(&stream->engine->freelist, &stream->queue, sent);
    }
}

/* Whether something is queued that may leave by a send(2).  Not if the owner waits to be told of the queue. */
static int may_send_queued(const ul_stream *stream)
{
    return stream->queue.size > 0 && stream->send_token == 0 && !stream->pipe && !stream->closing &&
           !stream->notify_low && !stream->notify_empty && !ring_of(stream)->dropped;
}

/* The same of an open stream. */
static void send_queued(ul_stream *stream)
{
    if (!may_send_queued(stream))
        return;
    ul_stream_send_chunks(stream, 0);
    if (stream->queue.size == 0 && stream->eof_wanted)
        shutdown(stream->fd, SHUT_WR);
}

/* The stream waits no more for its queue to be sent, if that is empty. */
static void leave_if_sent(ul_stream *stream)
{
    ul_stream_engine *engine = stream->engine;
    if (stream->queue.size == 0 && engine->to_send == stream) {
        engine->to_send = stream->next_to_send;
        stream->queued_to_send = 0;
    }
}

/* Sends what the stream has queued, as far as the socket takes it at once. */
void ul_stream_send_queued(ul_stream *stream)
{
    send_queued(stream);
    leave_if_sent(stream);
}

/* Sends what the stream has queued and then these bytes, as far as the socket takes them at once; how many of these
 * were sent.  A header and the body behind it leave by one call, and as one packet if they fit. */
size_t ul_stream_send_behind(ul_stream *stream, const void *data, size_t size_bytes)
{
    size_t head_size = 0;
    if (!may_send_queued(stream) || !ul_queue_is_one_copy(&stream->queue)) {
        ul_stream_send_queued(stream);
        return ul_stream_send_now(stream, data, size_bytes);
    }
    const char *head = ul_queue_head(&stream->queue, &head_size);
    struct iovec parts[] = {{(void *)(uintptr_t)head, head_size}, {(void *)(uintptr_t)data, size_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    note_write(stream);
    size_t sent = note_sent(stream, sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
    ul_queue_sent(&stream->engine->freelist, &stream->queue, sent < head_size ? sent : head_size);
    leave_if_sent(stream);
    return sent > head_size ? sent - head_size : 0;
}

/* The same of a closing stream.  The last bytes of a TCP connection wait for its FIN. */
void ul_stream_send_last(ul_stream *stream)
{
    if (stream->queue.size == 0 || stream->send_token != 0 || stream->pipe || stream->notify_low ||
        stream->notify_empty)
        return;
    stream->sends_last = stream->own_tcp;
    ul_stream_send_chunks(stream, 1);
    stream->sends_last &= stream->queue.size == 0;
    stream->finished = stream->sends_last;
    if (stream->queue.size == 0 && (stream->eof_wanted || stream->finished))
        shutdown(stream->fd, SHUT_WR);
    leave_if_sent(stream);
}

/* Stages what is queued; the number of sends, or a negative errno.  Where the ring makes a system call for each SQE, a
 * send(2) without one costs less. */
int ul_streams_stage_sends(ul_stream_engine *engine)
{
    int sends = 0, batches = engine->ring->backend->batches;
    while (engine->to_send != NULL) {
        ul_stream *stream = engine->to_send, *next = stream->next_to_send;
        if (next != NULL) {
            ul_warm(next->next_to_send);
            __builtin_prefetch(next->queue.head);
        }
        if (!batches)
            send_queued(stream);
        if (stream->queue.size > 0 && stream->send_token == 0) {
            int error = ul_stream_stage_send(stream);
            if (error < 0)
                return error;
            sends++;
        }
        engine->to_send = stream->next_to_send;
        stream->queued_to_send = 0;
    }
    return sends;
}

/* The same of all streams, in the middle of a tick; 1 if some of it goes on waiting for the tick's end.  all: nothing
 * may; else closing streams still do. */
int ul_streams_send_waiting(ul_stream_engine *engine, int all)
{
    ul_stream **link = &engine->to_send;
    while (*link != NULL) {
        ul_stream *stream = *link;
        if (stream->own_tcp && !stream->closing && !stream->goes_on)
            goes_on(stream);
        send_queued(stream);
        if (stream->queue.size == 0) {
            stream->queued_to_send = 0;
            *link = stream->next_to_send;
        } else {
            link = &stream->next_to_send;
        }
    }
    /* What is refused here is still staged, or still queued, at the tick's end, where the refusal is told. */
    if (all && !engine->ring->dropped && ul_streams_stage_sends(engine) > 0)
        ul_enter(engine->ring, 0, -1);
    return engine->to_send != NULL;
}

/* The next pin whose memory the kernel is done with, or NULL. */
void *ul_stream_released(ul_stream *stream) { return ul_queue_released(&stream->queue); }

/* Takes back what was written last, all of this size, unless a part of it was sent: 1, or 0. */
int ul_stream_take_back(ul_stream *stream, size_t size_bytes)
{
    if (size_bytes > stream->queue.size)
        return 0;
    ul_queue_cut(&stream->engine->freelist, &stream->queue, size_bytes);
    return 1;
}

size_t ul_stream_queued(ul_stream *stream) { return stream->queue.size; }

/* Whether the last bytes of a closing stream are sent, so that no more may follow. */
int ul_stream_finished(ul_stream *stream) { return stream->finished; }

void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes)
{
    stream->notify_low = 1;
    stream->low_water = low_water_bytes;
}

void ul_stream_notify_empty(ul_stream *stream) { stream->notify_empty = 1; }

void ul_stream_drop_queue(ul_stream *stream) { ul_queue_drop(&stream->engine->freelist, &stream->queue); }

void ul_stream_complete_send(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    stream->send_token = 0;
    if (stream->aborted) {
        ul_stream_drop_queue(stream);
        return;
    }
    if (stream->send_polls) {
        queue_to_send(stream);
        return;
    }
    stream->poll_first = stream->polls || cqe->res == -EAGAIN;
    if (cqe->res >= 0) {
        ring_of(stream)->statistics.bytes_sent += (uint64_t)cqe->res;
        ul_queue_sent(&stream->engine->freelist, &stream->queue, (size_t)cqe->res);
    } else if (cqe->res != -EINTR && cqe->res != -EAGAIN) {
        ul_stream_drop_queue(stream);
        outcome->what |= UL_STREAM_SEND_ERROR;
        if (cqe->res == -EPIPE && stream->send_error < 0)
            outcome->res = stream->send_error;
        return;
    }
    if (cqe->res >= 0 && !stream->closing && !stream->pipe)
        ul_stream_send_chunks(stream, 1);
    if (stream->queue.size > 0) {
        queue_to_send(stream);
    } else {
        stream->finished = stream->sends_last;
        if (stream->eof_wanted || stream->finished)
            shutdown(stream->fd, SHUT_WR);
        if (stream->notify_empty)
            outcome->what |= UL_STREAM_EMPTY;
        stream->notify_empty = 0;
    }
    if (stream->notify_low && stream->queue.size <= stream->low_water) {
        stream->notify_low = 0;
        outcome->what |= UL_STREAM_LOW;
    }
}
