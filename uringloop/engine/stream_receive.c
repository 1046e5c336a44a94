/* The receiving half of the stream engine (stream.c).
 *
 * A stream receives in one of two ways:
 *
 * - With a buffer group, one multishot receive serves the stream until it ends.  It ends whenever F_MORE is clear, for
 *   whatever reason, and is armed again as long as bytes are wanted.
 * - By readiness: a poll reports bytes (UL_STREAM_READABLE), and recv(2) takes them when the dispatch comes to the
 *   stream, into memory that all streams share.  Streams without a buffer group always receive so.
 *
 * A multishot receive takes up to 32 buffers at once, so a few fast senders empty a group of any size.  Two kinds of
 * streams therefore receive by readiness for a while, each at most 256 KiB a tick, in the order of the kernel's polls:
 *
 * - A stream that finds the group empty (ENOBUFS) needs no buffer of it, and is served in the next tick.
 * - A stream that fills many buffers (bulk) leaves the group to the others.  Its bytes come in larger pieces, and
 * always through the same memory, where the group's buffers would push each other out of the cache.
 *
 * A stream that has lately received much by readiness also waits for its turn (to_take), and a tick gives
 * TURNS_A_TICK turns, first come, first served.  So a tick takes at most 1 MiB of such streams, however many are ready.
 * The next tick first dispatches the small receives that completed meanwhile.  An enter costs little beside the copy
 * of four takes.  A stream that waits for its turn has nothing in flight, and one that is paused when it comes loses
 * it.
 *
 * A paused stream takes nothing from its socket: its multishot receive is cancelled, and a poll takes nothing anyway.
 * So a copy of the descriptor finds the bytes, and a close with unread bytes sends its reset.
 * After a pause it receives by readiness, since pauses rarely come alone.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BULK_BEGINS_AT 16 /* so many full buffers more than others */
#define MUCH_BYTES 16384  /* a take of so many is much */
#define MUCH_FOR 4        /* so many takes: the tail of a large write is small, and much follows it */
#define TURNS_A_TICK 4
#define READINESS_RECEIVES 4 /* so many receives of less than a full buffer by readiness, then multishot again */

static int uses_group(const ul_stream *stream) { return stream->multishot && stream->by_readiness == 0; }

static void receive_by_readiness(ul_stream *stream)
{
    if (stream->by_readiness == 0)
        stream->by_readiness = READINESS_RECEIVES;
}

void ul_stream_leave_bulk(ul_stream *stream)
{
    stream->engine->bulk_streams -= stream->bulk;
    stream->bulk = stream->full_buffers = 0;
}

/* After so many bytes came through the group: whether the stream is to receive in bulk from now on. */
static int begins_bulk(ul_stream *stream, uint32_t size)
{
    const ul_stream_engine *engine = stream->engine;
    if (size < ring_of(stream)->buffers[UL_GROUP_BYTES].size_bytes) {
        stream->full_buffers -= stream->full_buffers > 0;
        return 0;
    }
    if (stream->full_buffers < BULK_BEGINS_AT)
        stream->full_buffers++;
    return stream->full_buffers == BULK_BEGINS_AT && (stream->bulk || engine->bulk_streams < engine->bulk_streams_max);
}

static void begin_bulk(ul_stream *stream)
{
    stream->engine->bulk_streams += !stream->bulk;
    stream->bulk = 1;
    stream->much_lately = MUCH_FOR;
    stream->by_readiness = READINESS_RECEIVES;
}

/* After so many bytes came by readiness. */
static void count_readiness(ul_stream *stream, uint32_t size)
{
    if (!stream->multishot)
        return;
    int is_full = size >= ring_of(stream)->buffers[UL_GROUP_BYTES].size_bytes;
    if (is_full && (stream->bulk || stream->engine->bulk_streams < stream->engine->bulk_streams_max)) {
        begin_bulk(stream);
    } else if (stream->by_readiness > 0 && --stream->by_readiness == 0) {
        ul_stream_leave_bulk(stream);
    }
}

/* Whether the last take was much. */
int ul_stream_takes_much(ul_stream *stream) { return stream->takes_much; }

/* Whether a receive that leaves a part of its buffer free has emptied the socket, which spares epoll a look.  Not after
 * other code has taken the urgent byte: then a receive ends at its place without an event that tells. */
static int takes_all(const ul_stream *stream) { return stream->own_tcp && !ring_of(stream)->backend->batches; }

int ul_stream_stage_receive(ul_stream *stream)
{
    int error;
    stream->cancelling_receive = 0;
    stream->receive_polls = stream->watches || !uses_group(stream);
    if (stream->receive_polls) {
        uint32_t events = stream->watches ? stream->watched_events : POLLIN;
        return ul_stream_stage_poll(stream, events, UL_KIND_STREAM_RECEIVE, &stream->receive_token);
    }
    struct io_uring_sqe *sqe = ul_next_sqe(ring_of(stream), &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = stream->pipe ? IORING_OP_READ_MULTISHOT : IORING_OP_RECV;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->ioprio = stream->pipe ? 0 : IORING_RECV_MULTISHOT;
    if (takes_all(stream))
        sqe->ioprio |= UL_RECV_EMPTIES;
    sqe->fd = stream->fd;
    sqe->off = stream->pipe ? CURRENT_POSITION : 0;
    stream->receive_token = sqe->user_data = ul_slot_token(ring_of(stream), stream->slot, UL_KIND_STREAM_RECEIVE);
    return 0;
}

/* Receive from now on, until held. */
int ul_stream_receive(ul_stream *stream)
{
    if (stream->closing || stream->ended)
        return 0;
    stream->wanted = 1;
    if (stream->receive_token != 0 || stream->turn.turns != NULL)
        return 0;
    return ul_stream_stage_receive(stream);
}

/* Instead of receiving, from ul_stream_receive on: UL_STREAM_HANGUP comes when poll(2) reports one of the events, an
 * error or a hang-up. */
void ul_stream_watch(ul_stream *stream, uint32_t events)
{
    stream->watches = 1;
    stream->watched_events = (uint16_t)events;
}

int ul_stream_cancel_receive(ul_stream *stream)
{
    if (stream->receive_token == 0 || stream->cancelling_receive)
        return 0;
    if (ul_withdraw(ring_of(stream), stream->receive_token)) {
        stream->receive_token = 0;
        return 0;
    }
    stream->cancelling_receive = 1;
    return ul_stage_cancel(ring_of(stream), stream->receive_token);
}

/* Other code may have a copy of the descriptor from now on. */
int ul_stream_share(ul_stream *stream)
{
    int error = takes_all(stream) && !stream->receive_polls ? ul_stream_cancel_receive(stream) : 0;
    stream->own_tcp = 0;
    return error < 0 || stream->receive_token != 0 || !stream->wanted || stream->turn.turns != NULL
               ? error
               : ul_stream_stage_receive(stream);
}

/* Takes no more from the socket from the next enter on; bytes taken before still come.  Returns whether a receive is
 * being cancelled for that. */
int ul_stream_hold(ul_stream *stream)
{
    stream->wanted = 0;
    if (stream->receive_token == 0 || stream->receive_polls)
        return 0;
    receive_by_readiness(stream);
    int error = ul_stream_cancel_receive(stream);
    return error < 0 ? error : stream->receive_token != 0;
}

/* A stream waits for a receive to be staged, or for its turn to take. */
static void wait_in_turns(ul_turns *turns, ul_stream *stream)
{
    if (stream->wanted)
        ul_turn_wait(turns, &stream->turn);
}

static void queue_to_receive(ul_stream *stream) { wait_in_turns(&stream->engine->to_receive, stream); }

/* Gives the next streams in bulk their turn in the tick that begins: writes their outcomes; the number. */
int ul_streams_give_turns_waiting(ul_stream_engine *engine, ul_outcome *outcomes, uint32_t capacity)
{
    uint32_t count = 0;
    ul_stream *stream;
    while (count < capacity && count < TURNS_A_TICK && (stream = (ul_stream *)engine->to_take.first) != NULL) {
        ul_turn_end(&stream->turn);
        if (!stream->wanted)
            continue;
        memset(&outcomes[count], 0, sizeof(outcomes[count]));
        outcomes[count].owner = stream->owner;
        outcomes[count++].what = UL_STREAM_READABLE;
    }
    return (int)count;
}

/* Recycles the buffer of a UL_STREAM_DATA outcome. */
void ul_stream_recycle(ul_stream *stream, const ul_outcome *outcome)
{
    ul_buffer_recycle(ring_of(stream), UL_GROUP_BYTES, outcome->buffer_id, stream);
}

static void complete_poll(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    if (cqe->res == -ECANCELED || cqe->res == -EINTR) {
        queue_to_receive(stream);
    } else if (!stream->watches) {
        if (stream->much_lately > 0)
            wait_in_turns(&stream->engine->to_take, stream);
        else if (stream->wanted)
            outcome->what |= UL_STREAM_READABLE;
    } else if (cqe->res < 0) {
        queue_to_receive(stream);
    } else {
        stream->wanted = 0;
        stream->ended = 1;
        if (!stream->closing) {
            outcome->what |= UL_STREAM_HANGUP;
            outcome->res = stream->queue.size > 0;
        }
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

/* Receives nothing any more: the errno, 0 at the end of file. */
static int end_receiving(ul_stream *stream, int error)
{
    stream->wanted = 0;
    stream->ended = 1;
    return error == 0 && was_reset(stream) ? -ECONNRESET : error;
}

/* Takes the bytes of a readable stream, after UL_STREAM_READABLE.  Returns their number, 0 at the end of file, or a
 * negative errno.  After EAGAIN the next UL_STREAM_READABLE comes as always. */
int ul_stream_take(ul_stream *stream, void *buffer, size_t size_bytes)
{
    if (!stream->wanted)
        return -EAGAIN;
    stream->takes_much = 0;
    ssize_t size = stream->pipe ? read(stream->fd, buffer, size_bytes)
                                : recv(stream->fd, buffer, size_bytes, MSG_DONTWAIT);
    if (size > 0) {
        ring_of(stream)->statistics.bytes_received += (uint64_t)size;
        stream->takes_much = size >= MUCH_BYTES;
        stream->much_lately = stream->takes_much ? MUCH_FOR : stream->much_lately - (stream->much_lately > 0);
        count_readiness(stream, (uint32_t)size);
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        return end_receiving(stream, size == 0 ? 0 : -errno);
    }
    if (stream->receive_token == 0)
        queue_to_receive(stream);
    return size > 0 ? (int)size : -EAGAIN;
}

static void complete_data(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = ring_of(stream);
    ring->statistics.bytes_received += (uint64_t)cqe->res;
    outcome->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    outcome->data = ul_buffer_lend(ring, UL_GROUP_BYTES, outcome->buffer_id, stream);
    if (stream->closing) {
        ul_buffer_recycle(ring, UL_GROUP_BYTES, outcome->buffer_id, stream);
    } else {
        outcome->what |= UL_STREAM_DATA;
        if (begins_bulk(stream, (uint32_t)cqe->res)) {
            begin_bulk(stream);
            ul_stream_cancel_receive(stream);
        }
    }
    if (stream->receive_token == 0 && stream->wanted) {
        ring->statistics.rearms++;
        queue_to_receive(stream);
    }
}

void ul_stream_complete_receive(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = ring_of(stream);
    int ended = !(cqe->flags & IORING_CQE_F_MORE);
    if (ended)
        stream->receive_token = 0;
    if (stream->receive_polls) {
        complete_poll(stream, cqe, outcome);
        return;
    }
    if (cqe->res > 0) {
        complete_data(stream, cqe, outcome);
        return;
    }
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        ul_buffer_lend(ring, UL_GROUP_BYTES, cqe->flags >> IORING_CQE_BUFFER_SHIFT, stream);
        ul_buffer_recycle(ring, UL_GROUP_BYTES, cqe->flags >> IORING_CQE_BUFFER_SHIFT, stream);
    }
    if (!ended)
        return;
    if (cqe->res == -ENOBUFS) {
        ring->statistics.no_buffers++;
        ul_buffers_found_empty(ring, UL_GROUP_BYTES);
    }
    if (cqe->res == -ENOBUFS || cqe->res == -EAGAIN)
        receive_by_readiness(stream); /* EAGAIN: of a pipe, before Linux had them wait */
    if (cqe->res == -ENOBUFS || cqe->res == -EAGAIN || cqe->res == -EINTR || cqe->res == -ECANCELED) {
        queue_to_receive(stream);
        return;
    }
    outcome->res = end_receiving(stream, cqe->res);
    if (!stream->closing)
        outcome->what |= outcome->res == 0 ? UL_STREAM_EOF : UL_STREAM_RECEIVE_ERROR;
}
