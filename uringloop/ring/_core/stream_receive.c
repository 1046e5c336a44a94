/* The receiving half of the stream engine (stream.c).
 *
 * With a buffer group one multishot receive serves the stream until it ends; without, one receive at a time into the
 * stream's own buffer.  A multishot receive ends whenever F_MORE is clear, for whatever reason, and is armed again as
 * long as bytes are wanted.  ENOBUFS means that the group is empty and the bytes wait in the socket: the stream queues up
 * and is armed again after the dispatch has recycled (and the group has grown, if it may).
 *
 * Bulk: what comes fast fills one buffer of the group after the other, and all of them in turn, which is more memory than
 * the cache holds, and a call of Python for each.  Such a stream receives into a large buffer of its own instead, until
 * little comes again.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OWN_BUFFER_SIZE (256 * 1024) /* as much as asyncio reads at once: of a longer datagram the rest is lost */
#define BULK_BEGINS_AT 16            /* so many full buffers more than others */
#define BULK_ENDS_AFTER 4            /* so many receives in a row of less than a full one */

/* Own buffers are kept by the ring when their streams go: given back to malloc in thousands they fragment its heap. */
static int take_own_buffer(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    stream->own_buffer = ring->spare_buffers;
    if (stream->own_buffer != NULL)
        memcpy(&ring->spare_buffers, stream->own_buffer, sizeof(char *));
    else
        stream->own_buffer = malloc(OWN_BUFFER_SIZE);
    return stream->own_buffer == NULL ? -ENOMEM : 0;
}

void ul_stream_give_own_buffer(ul_stream *stream)
{
    if (stream->own_buffer == NULL)
        return;
    memcpy(stream->own_buffer, &stream->ring->spare_buffers, sizeof(char *));
    stream->ring->spare_buffers = stream->own_buffer;
    stream->own_buffer = NULL;
}

static int shares_buffers(const ul_stream *stream) { return stream->multishot && !stream->bulk; }

void ul_stream_leave_bulk(ul_stream *stream)
{
    stream->ring->bulk_streams -= stream->bulk;
    stream->bulk = stream->bulk_score = 0;
}

/* After so many bytes came: whether the stream is to have another kind of buffer from now on. */
static int choose_buffer(ul_stream *stream, uint32_t size)
{
    ul_ring *ring = stream->ring;
    int much = size >= ring->buffers[UL_GROUP_STREAM].size_bytes;
    if (stream->bulk) {
        stream->bulk_score = much ? BULK_ENDS_AFTER : stream->bulk_score - 1;
        if (stream->bulk_score == 0)
            ul_stream_leave_bulk(stream);
        return 0;
    }
    if (much && stream->bulk_score < BULK_BEGINS_AT)
        stream->bulk_score++;
    else if (!much && stream->bulk_score > 0)
        stream->bulk_score--;
    if (stream->bulk_score < BULK_BEGINS_AT || ring->bulk_streams >= ring->bulk_streams_max)
        return 0;
    ring->bulk_streams++;
    stream->bulk = 1;
    stream->bulk_score = BULK_ENDS_AFTER;
    return 1;
}

static void fill_receive(ul_stream *stream, struct io_uring_sqe *sqe)
{
    sqe->fd = stream->fd;
    sqe->off = stream->pipe ? CURRENT_POSITION : 0;
    if (shares_buffers(stream)) {
        sqe->opcode = stream->pipe ? IORING_OP_READ_MULTISHOT : IORING_OP_RECV;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = stream->pipe ? 0 : IORING_RECV_MULTISHOT;
    } else {
        sqe->opcode = stream->pipe ? IORING_OP_READ : IORING_OP_RECV;
        sqe->addr = (uint64_t)(uintptr_t)stream->own_buffer;
        sqe->len = OWN_BUFFER_SIZE;
    }
}

int ul_stream_stage_receive(ul_stream *stream)
{
    int error;
    stream->cancelling_receive = 0;
    stream->receive_polls = stream->watches || stream->poll_receive_first;
    if (stream->receive_polls) {
        uint32_t events = stream->watches ? stream->watched_events : POLLIN;
        stream->poll_receive_first = 0;
        return ul_stream_stage_poll(stream, events, UL_KIND_RECEIVE, &stream->receive_token);
    }
    if (!shares_buffers(stream) && stream->own_buffer == NULL && take_own_buffer(stream) < 0)
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
    return ul_stream_stage_receive(stream);
}

/* Instead of receiving, from ul_stream_receive on: UL_STREAM_HANGUP comes when poll(2) reports one of the events, an error
 * or a hang-up. */
void ul_stream_watch(ul_stream *stream, uint32_t events)
{
    stream->watches = 1;
    stream->watched_events = events;
}

int ul_stream_cancel_receive(ul_stream *stream)
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
    return ul_stream_cancel_receive(stream);
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
    if (event->data != stream->own_buffer)
        ul_buffer_recycle(stream->ring, UL_GROUP_STREAM, event->buffer_id, stream);
    else {
        stream->own_lent = 0;
        if (shares_buffers(stream))
            ul_stream_give_own_buffer(stream);
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

void ul_stream_complete_receive(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
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
    int shared = cqe->flags & IORING_CQE_F_BUFFER;
    if (cqe->res > 0) {
        ring->statistics.bytes_received += (uint64_t)cqe->res;
        event->data = stream->own_buffer;
        if (shared) {
            event->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            event->data = ul_buffer_lend(ring, UL_GROUP_STREAM, event->buffer_id, stream);
        }
        if (!stream->closing) {
            event->what |= UL_STREAM_DATA;
            stream->own_lent = !shared;
            if (stream->multishot && choose_buffer(stream, (uint32_t)cqe->res))
                ul_stream_cancel_receive(stream);
        } else if (shared)
            ul_buffer_recycle(ring, UL_GROUP_STREAM, event->buffer_id, stream);
        if (ended && shared && stream->wanted) {
            ring->statistics.rearms++;
            queue_to_receive(stream);
        }
        return;
    }
    if (shared) {
        ul_buffer_lend(ring, UL_GROUP_STREAM, cqe->flags >> IORING_CQE_BUFFER_SHIFT, stream);
        ul_buffer_recycle(ring, UL_GROUP_STREAM, cqe->flags >> IORING_CQE_BUFFER_SHIFT, stream);
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
