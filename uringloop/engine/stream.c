/* The stream engine: a connected socket's receive, which arms itself again, and its ordered send queue.  A pipe is the
 * same with READ and WRITE in place of RECV and SEND.  So are a FIFO, a tty, and any other file that poll(2) can watch.
 *
 * stream_receive.c and stream_send.c have the halves; this file has their common part, from opening to the end.
 *
 * Pipes: from Linux 6.7 on, READ_MULTISHOT serves a pipe as a multishot receive serves a socket.  On 6.18 a WRITE waits
 * for a non-blocking pipe or tty as it does for a socket.  Older kernels answer EAGAIN, and so does any kernel where
 * two writes to one tty meet.  A poll then takes its place, and it is tried again after that.  A pipe that is only
 * written to polls in place of receiving, which tells when the reader has gone.
 *
 * Closing: a pending receive holds its socket; no FIN would be sent, and it would take bytes.  So it is cancelled, and
 * the stream closes when nothing of it is in flight.  Under DEFER_TASKRUN a cancelled receive leaves bytes in the
 * socket.  The last bytes of a closing TCP stream and its FIN are one packet: the send says that more comes (MSG_MORE).
 * Its completion shuts the sending side down, as close(2) would a moment later.  A stream whose descriptor may have a
 * copy elsewhere does not: the copy may go on with the connection.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The engine of a ring, or NULL before its first stream. */
static ul_stream_engine *find_engine(const ul_ring *ring)
{
    return (ul_stream_engine *)ring->engines[UL_KIND_STREAM_RECEIVE];
}

static int streams_waiting(const ul_engine *base)
{
    const ul_stream_engine *engine = (const ul_stream_engine *)base;
    return engine->to_send != NULL || engine->to_receive.first != NULL || engine->to_take.first != NULL;
}

/* Stages what queued up during the dispatch; whether an enter must not wait, or a negative errno.
 *
 * Most sends complete during the submit, so an enter with a send never waits long.  It need not release the GIL, which
 * beside a busy thread would take milliseconds to come back. */
static int stage_streams(ul_engine *base)
{
    ul_stream_engine *engine = (ul_stream_engine *)base;
    ul_stream *stream;
    while ((stream = (ul_stream *)engine->to_receive.first) != NULL) {
        if (stream->wanted && stream->receive_token == 0) {
            int error = ul_stream_stage_receive(stream);
            if (error < 0)
                return error;
        }
        ul_turn_end(&stream->turn);
    }
    int sends = ul_streams_stage_sends(engine);
    return sends == 0 ? engine->to_take.first != NULL : sends;
}

/* One CQE of a stream; 1 if there is something that Python must hear. */
static int complete_stream(ul_engine *base, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    const ul_stream_engine *engine = (const ul_stream_engine *)base;
    ul_stream *stream = ul_slot_find(&engine->streams, cqe->user_data);
    if (stream == NULL)
        return 0;
    outcome->what = 0;
    outcome->res = cqe->res;
    outcome->flags = cqe->flags;
    outcome->owner = stream->owner;
    if (cqe->user_data == stream->receive_token)
        ul_stream_complete_receive(stream, cqe, outcome);
    else if (cqe->user_data == stream->send_token)
        ul_stream_complete_send(stream, cqe, outcome);
    else
        return 0;
    if (stream->queue.released != NULL)
        outcome->what |= UL_STREAM_RELEASED;
    if (stream->closing && ul_stream_idle(stream))
        outcome->what |= UL_STREAM_CLOSED;
    return outcome->what != 0;
}

static void count_streams(const ul_engine *base, ul_statistics *out)
{
    const ul_stream_engine *engine = (const ul_stream_engine *)base;
    out->streams = engine->streams.count - engine->streams.free_count;
    out->bulk_streams = engine->bulk_streams;
}

static void close_engine(ul_engine *base)
{
    ul_stream_engine *engine = (ul_stream_engine *)base;
    for (uint32_t slot = 0; slot < engine->streams.count; slot++)
        if (engine->streams.entries[slot] != NULL)
            ul_stream_free(engine->streams.entries[slot]);
    ul_freelist_free(&engine->freelist);
    ul_slots_close(&engine->streams);
    free(engine);
}

static void warm_stream(const ul_engine *base, uint64_t token)
{
    const ul_stream *stream = ul_slot_find(&((const ul_stream_engine *)base)->streams, token);
    if (stream != NULL)
        ul_warm(stream);
}

/* The engine of a ring, made if it is not there; NULL if there is no memory. */
static ul_stream_engine *need_engine(ul_ring *ring)
{
    ul_stream_engine *engine = find_engine(ring);
    if (engine != NULL)
        return engine;
    engine = calloc(1, sizeof(*engine));
    if (engine == NULL)
        return NULL;
    engine->base = (ul_engine){complete_stream, stage_streams, streams_waiting, count_streams, close_engine,
                               warm_stream,     NULL};
    engine->ring = ring;
    ul_ring_add_engine(ring, &engine->base, UL_KIND_STREAM_RECEIVE, 2);
    return engine;
}

/* How many streams at a time may receive by readiness because much comes; at first none. */
int ul_streams_allow_bulk(ul_ring *ring, uint32_t streams_max)
{
    ul_stream_engine *engine = need_engine(ring);
    if (engine == NULL)
        return -ENOMEM;
    engine->bulk_streams_max = streams_max;
    return 0;
}

/* Sends what streams have queued, in the middle of a tick; 1 if some of it goes on waiting for the tick's end.  all:
 * nothing may; else closing streams still do. */
int ul_streams_send(ul_ring *ring, int all)
{
    ul_stream_engine *engine = find_engine(ring);
    return engine != NULL && ul_streams_send_waiting(engine, all);
}

int ul_streams_give_turns(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity)
{
    ul_stream_engine *engine = find_engine(ring);
    return engine != NULL ? ul_streams_give_turns_waiting(engine, outcomes, capacity) : 0;
}

/* flags: UL_OPEN_* */
ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags)
{
    ul_stream_engine *engine = need_engine(ring);
    ul_stream *stream = engine != NULL ? calloc(1, sizeof(*stream)) : NULL;
    if (stream == NULL)
        return NULL;
    if (ul_slot_take(&engine->streams, stream, &stream->slot) < 0) {
        free(stream);
        return NULL;
    }
    ul_descriptor_closes(ring, fd, 0); /* an earlier file of this number may have been closed unseen */
    stream->engine = engine;
    stream->owner = owner;
    stream->fd = fd;
    stream->multishot = (flags & (UL_OPEN_MULTISHOT | UL_OPEN_POLLS)) == UL_OPEN_MULTISHOT && ul_buffers_need(ring);
    stream->pipe = (flags & UL_OPEN_PIPE) != 0;
    stream->polls = (flags & UL_OPEN_POLLS) != 0;
    stream->own_tcp = (flags & UL_OPEN_OWN_TCP) != 0;
    stream->poll_first = stream->polls;
    return stream;
}

/* In place of a receive or a send. */
int ul_stream_stage_poll(ul_stream *stream, uint32_t events, uint32_t kind, uint64_t *token)
{
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(ring_of(stream), &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = stream->fd;
    sqe->op_flags = events;
    *token = sqe->user_data = ul_slot_token(ring_of(stream), stream->slot, kind);
    return 0;
}

int ul_stream_idle(ul_stream *stream)
{
    return stream->receive_token == 0 && stream->send_token == 0 && stream->queue.size == 0;
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
    if (!stream->closing && !stream->aborted)
        ul_stream_note_close(stream);
    stream->closing = 1;
    stream->wanted = 0;
    if (ring_of(stream)->dropped) {
        /* In a forked child: operations in flight are the parent's, and the parent sends the queue. */
        stream->receive_token = stream->send_token = 0;
        ul_stream_drop_queue(stream);
    }
    if (!ring_of(stream)->backend->batches && !ring_of(stream)->dropped)
        ul_stream_send_last(stream);
    int error = ul_stream_cancel_receive(stream);
    return error < 0 ? error : ul_stream_idle(stream);
}

/* Closes without waiting: drops the bytes that the socket does not take at once, and cancels a send under way. */
int ul_stream_abort(ul_stream *stream)
{
    stream->aborted = 1;
    if (stream->send_token == 0) {
        /* As asyncio's write, send the bytes that the socket takes: the last ones before an abort tell its reason. */
        if (!ring_of(stream)->dropped)
            ul_stream_send_chunks(stream, 1);
        ul_stream_drop_queue(stream);
    } else if (!stream->cancelling_send) {
        stream->cancelling_send = 1;
        int error = ul_stage_cancel(ring_of(stream), stream->send_token);
        if (error < 0)
            return error;
    }
    return ul_stream_close(stream);
}

static void unlink_stream(ul_stream *stream)
{
    ul_stream_engine *engine = stream->engine;
    ul_stream **link = &engine->to_send;
    while (stream->queued_to_send && *link != stream)
        link = &(*link)->next_to_send;
    if (stream->queued_to_send)
        *link = stream->next_to_send;
    ul_turn_end(&stream->turn);
}

/* Whether no other code can have a copy of the descriptor. */
int ul_stream_is_alone(ul_stream *stream) { return stream->own_tcp; }

/* Only when nothing of it is in flight. */
void ul_stream_free(ul_stream *stream)
{
    unlink_stream(stream);
    ul_slot_release(&stream->engine->streams, stream->slot);
    ul_queue_free(&stream->queue);
    ul_stream_leave_bulk(stream);
    free(stream);
}
