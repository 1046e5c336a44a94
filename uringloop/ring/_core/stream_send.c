/* The sending half of the stream engine (stream.c).
 *
 * One SEND in flight, so that bytes keep their order.  Writes of one tick coalesce: the SQE is staged only when the ring
 * is about to be entered.  The next send starts from the completion of the last.  MSG_WAITALL, because a large send
 * otherwise returns short; MSG_NOSIGNAL, because a broken connection is an errno here and not a SIGPIPE.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_MAX (1 << 30)

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
        return ul_stream_stage_poll(stream, POLLOUT, UL_KIND_SEND, &stream->send_token);
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
size_t ul_stream_send_at_once(ul_stream *stream, const void *data, size_t size_bytes)
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
    return stream->queue.size > 0 || stream->closing ? 0 : ul_stream_send_at_once(stream, data, size_bytes);
}

/* The next pin whose memory the kernel is done with, or NULL. */
void *ul_stream_released(ul_stream *stream) { return ul_queue_released(&stream->queue); }

size_t ul_stream_queued(ul_stream *stream) { return stream->queue.size; }

/* Whether the last bytes of a closing stream are sent, so that no more may follow. */
int ul_stream_finished(ul_stream *stream) { return stream->finished; }

/* Somebody else may have a copy of the descriptor from now on. */
void ul_stream_share(ul_stream *stream) { stream->own_tcp = 0; }

void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes)
{
    stream->notify_low = 1;
    stream->low_water = low_water_bytes;
}

void ul_stream_notify_empty(ul_stream *stream) { stream->notify_empty = 1; }

void ul_stream_drop_queue(ul_stream *stream) { ul_queue_drop(stream->ring, &stream->queue); }

void ul_stream_complete_send(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
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
        stream->ring->statistics.bytes_sent += (uint64_t)cqe->res;
        ul_queue_sent(stream->ring, &stream->queue, (size_t)cqe->res);
    } else if (cqe->res != -EINTR && cqe->res != -EAGAIN) {
        ul_stream_drop_queue(stream);
        event->what |= UL_STREAM_SEND_ERROR;
        return;
    }
    if (stream->queue.size > 0) {
        queue_to_send(stream);
    } else {
        stream->finished = stream->sends_last;
        if (stream->eof_wanted || stream->finished)
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
