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
 *
 * A slot names the stream in a token together with a serial number, so no token comes twice.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_SIZE (16 * 1024)
#define SPARE_CHUNKS 256
#define SEND_MAX (1 << 30)
#define CURRENT_POSITION UINT64_MAX
#define MAX_SLOTS (1U << UL_SLOT_BITS)

struct ul_chunk {
    ul_chunk *next;
    const char *data;
    size_t size, sent, capacity; /* capacity 0: pinned memory of the caller */
    void *pin;
    char storage[];
};

struct ul_stream {
    ul_ring *ring;
    void *owner;
    int fd;
    uint32_t slot;
    uint64_t receive_token, send_token; /* 0: not in flight */
    ul_stream *next_to_send, *next_to_receive;
    uint8_t multishot, wanted, cancelling_receive, cancelling_send, queued_to_send, queued_to_receive;
    uint8_t closing, aborted, ended, eof_wanted, poll_first, notify_low, notify_empty;
    uint8_t pipe, polls_always, watches, receive_polls, send_polls, poll_receive_first;
    uint32_t watched_events;

    ul_chunk *head, *tail, *released;
    size_t queued, low_water;

    char *own_buffer;
    uint32_t own_size;
};

uint64_t ul_stream_token(ul_ring *ring, uint32_t slot, uint32_t kind)
{
    return ring->next_serial++ << (UL_KIND_BITS + UL_SLOT_BITS) | (uint64_t)slot << UL_KIND_BITS | kind;
}

static int grow_slots(ul_ring *ring)
{
    uint32_t capacity = ring->slot_capacity ? ring->slot_capacity * 2 : 64;
    if (capacity > MAX_SLOTS)
        return -EMFILE;
    ul_stream **slots = realloc(ring->slots, capacity * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    ring->slots = slots;
    uint32_t *free_slots = realloc(ring->free_slots, capacity * sizeof(*free_slots));
    if (free_slots == NULL)
        return -ENOMEM;
    ring->free_slots = free_slots;
    ring->slot_capacity = capacity;
    return 0;
}

/* flags: UL_OPEN_*. */
ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags, uint32_t receive_size_bytes)
{
    if (ring->free_slot_count == 0 && ring->slot_count == ring->slot_capacity && grow_slots(ring) < 0)
        return NULL;
    ul_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL)
        return NULL;
    stream->ring = ring;
    stream->owner = owner;
    stream->fd = fd;
    stream->multishot = flags & UL_OPEN_MULTISHOT && ring->buffers.entries != NULL;
    stream->pipe = (flags & UL_OPEN_PIPE) != 0;
    stream->polls_always = (flags & UL_OPEN_POLL_ALWAYS) != 0;
    stream->poll_receive_first = stream->poll_first = stream->polls_always;
    stream->own_size = receive_size_bytes;
    if (ring->free_slot_count > 0)
        stream->slot = ring->free_slots[--ring->free_slot_count];
    else
        stream->slot = ring->slot_count++;
    ring->slots[stream->slot] = stream;
    return stream;
}

void *ul_stream_owner(ul_stream *stream) { return stream->owner; }

/* --- receiving --- */

static int stage_poll(ul_stream *stream, uint32_t events, uint32_t kind, uint64_t *token)
{
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = stream->fd;
    sqe->op_flags = events;
    *token = sqe->user_data = ul_stream_token(stream->ring, stream->slot, kind);
    return 0;
}

static void fill_receive(ul_stream *stream, struct io_uring_sqe *sqe)
{
    sqe->fd = stream->fd;
    if (stream->multishot) {
        sqe->opcode = stream->pipe ? IORING_OP_READ_MULTISHOT : IORING_OP_RECV;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = stream->pipe ? 0 : IORING_RECV_MULTISHOT;
    } else {
        sqe->opcode = stream->pipe ? IORING_OP_READ : IORING_OP_RECV;
        sqe->addr = (uint64_t)(uintptr_t)stream->own_buffer;
        sqe->len = stream->own_size;
    }
    sqe->off = stream->pipe ? CURRENT_POSITION : 0;
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
    if (!stream->multishot && stream->own_buffer == NULL) {
        stream->own_buffer = malloc(stream->own_size);
        if (stream->own_buffer == NULL)
            return -ENOMEM;
    }
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    fill_receive(stream, sqe);
    stream->receive_token = sqe->user_data = ul_stream_token(stream->ring, stream->slot, UL_KIND_RECEIVE);
    return 0;
}

/* Receive from now on, until held. */
int ul_stream_receive(ul_stream *stream)
{
    if (stream->closing || stream->ended)
        return 0;
    stream->wanted = 1;
    if (stream->receive_token != 0 || stream->queued_to_receive)
        return 0;
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
        ul_buffer_recycle(stream->ring, event->buffer_id);
    else if (stream->wanted && stream->receive_token == 0)
        queue_to_receive(stream);
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
        event->res = stream->queued > 0;
    }
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
    stream->poll_receive_first = stream->polls_always || (stream->pipe && cqe->res == -EAGAIN);
    if (cqe->res > 0) {
        ring->statistics.bytes_received += (uint64_t)cqe->res;
        event->data = stream->own_buffer;
        if (stream->multishot) {
            event->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            event->data = ul_buffer_lend(ring, event->buffer_id);
        }
        if (!stream->closing)
            event->what |= UL_STREAM_DATA;
        else if (stream->multishot)
            ul_buffer_recycle(ring, event->buffer_id);
        if (ended && stream->multishot && stream->wanted) {
            ring->statistics.rearms++;
            queue_to_receive(stream);
        }
        return;
    }
    if (stream->multishot && cqe->flags & IORING_CQE_F_BUFFER) {
        ul_buffer_lend(ring, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        ul_buffer_recycle(ring, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (!ended)
        return;
    if (cqe->res == -ENOBUFS || cqe->res == -EINTR || cqe->res == -EAGAIN || cqe->res == -ECANCELED) {
        if (cqe->res == -ENOBUFS) {
            ring->statistics.no_buffers++;
            ul_buffers_grow(ring);
        }
        if (stream->wanted)
            queue_to_receive(stream);
        return;
    }
    stream->wanted = 0;
    stream->ended = 1;
    if (!stream->closing)
        event->what |= cqe->res == 0 ? UL_STREAM_EOF : UL_STREAM_RECEIVE_ERROR;
}

/* --- sending --- */

static ul_chunk *new_chunk(ul_ring *ring, size_t size, int pinned)
{
    if (!pinned && size <= CHUNK_SIZE && ring->spare_chunks != NULL) {
        ul_chunk *chunk = ring->spare_chunks;
        ring->spare_chunks = chunk->next;
        ring->spare_chunk_count--;
        chunk->next = NULL;
        chunk->size = chunk->sent = 0;
        return chunk;
    }
    size_t capacity = pinned ? 0 : size < CHUNK_SIZE ? CHUNK_SIZE : size;
    ul_chunk *chunk = malloc(sizeof(*chunk) + capacity);
    if (chunk == NULL)
        return NULL;
    memset(chunk, 0, sizeof(*chunk));
    chunk->capacity = capacity;
    chunk->data = chunk->storage;
    return chunk;
}

static void drop_chunk(ul_stream *stream, ul_chunk *chunk)
{
    ul_ring *ring = stream->ring;
    stream->queued -= chunk->size - chunk->sent;
    if (chunk->capacity == 0) {
        chunk->next = stream->released;
        stream->released = chunk;
    } else if (chunk->capacity == CHUNK_SIZE && ring->spare_chunk_count < SPARE_CHUNKS) {
        chunk->next = ring->spare_chunks;
        ring->spare_chunks = chunk;
        ring->spare_chunk_count++;
    } else {
        free(chunk);
    }
}

static void drop_head(ul_stream *stream)
{
    ul_chunk *chunk = stream->head;
    stream->head = chunk->next;
    if (stream->head == NULL)
        stream->tail = NULL;
    drop_chunk(stream, chunk);
}

static void append_chunk(ul_stream *stream, ul_chunk *chunk)
{
    if (stream->tail != NULL)
        stream->tail->next = chunk;
    else
        stream->head = chunk;
    stream->tail = chunk;
}

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
    ul_chunk *chunk = stream->head;
    size_t left = chunk->size - chunk->sent;
    sqe->fd = stream->fd;
    sqe->addr = (uint64_t)(uintptr_t)(chunk->data + chunk->sent);
    sqe->len = left > SEND_MAX ? SEND_MAX : (uint32_t)left;
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
    stream->send_token = sqe->user_data = ul_stream_token(stream->ring, stream->slot, UL_KIND_SEND);
    return 0;
}

/* Queues a copy of the bytes; small writes share a chunk with those before them that are not yet under way. */
int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes)
{
    const char *from = data;
    ul_chunk *tail = stream->tail;
    stream->queued += size_bytes;
    if (tail != NULL && tail->capacity > tail->size && (tail != stream->head || stream->send_token == 0)) {
        size_t room = tail->capacity - tail->size;
        size_t part = size_bytes < room ? size_bytes : room;
        memcpy(tail->storage + tail->size, from, part);
        tail->size += part;
        from += part;
        size_bytes -= part;
    }
    if (size_bytes > 0) {
        ul_chunk *chunk = new_chunk(stream->ring, size_bytes, 0);
        if (chunk == NULL) {
            stream->queued -= size_bytes;
            return -ENOMEM;
        }
        memcpy(chunk->storage, from, size_bytes);
        chunk->size = size_bytes;
        append_chunk(stream, chunk);
    }
    queue_to_send(stream);
    return 0;
}

/* Queues the caller's memory, which must not change or move until its pin comes out of ul_stream_released. */
int ul_stream_write_pinned(ul_stream *stream, const void *data, size_t size_bytes, void *pin)
{
    ul_chunk *chunk = new_chunk(stream->ring, size_bytes, 1);
    if (chunk == NULL)
        return -ENOMEM;
    chunk->data = data;
    chunk->size = size_bytes;
    chunk->pin = pin;
    stream->queued += size_bytes;
    append_chunk(stream, chunk);
    queue_to_send(stream);
    return 0;
}

/* Sends without the ring what an idle stream's socket or (non-blocking) pipe takes right now; 0 if anything is queued or
 * the send fails, since the queued send then tells why. */
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes)
{
    if (stream->head != NULL || stream->closing)
        return 0;
    ssize_t sent = stream->pipe ? write(stream->fd, data, size_bytes)
                                : send(stream->fd, data, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0)
        return 0;
    stream->ring->statistics.bytes_sent += (uint64_t)sent;
    return (size_t)sent;
}

/* The next pin whose memory the kernel is done with, or NULL. */
void *ul_stream_released(ul_stream *stream)
{
    ul_chunk *chunk = stream->released;
    if (chunk == NULL)
        return NULL;
    void *pin = chunk->pin;
    stream->released = chunk->next;
    free(chunk);
    return pin;
}

size_t ul_stream_queued(ul_stream *stream) { return stream->queued; }

void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes)
{
    stream->notify_low = 1;
    stream->low_water = low_water_bytes;
}

void ul_stream_notify_empty(ul_stream *stream) { stream->notify_empty = 1; }

static void drop_queue(ul_stream *stream)
{
    while (stream->head != NULL)
        drop_head(stream);
}

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
    stream->poll_first = stream->polls_always || cqe->res == -EAGAIN;
    if (cqe->res >= 0) {
        ul_chunk *chunk = stream->head;
        stream->ring->statistics.bytes_sent += (uint64_t)cqe->res;
        chunk->sent += (size_t)cqe->res;
        stream->queued -= (size_t)cqe->res;
        if (chunk->sent == chunk->size)
            drop_head(stream);
    } else if (cqe->res != -EINTR && cqe->res != -EAGAIN) {
        drop_queue(stream);
        event->what |= UL_STREAM_SEND_ERROR;
        return;
    }
    if (stream->head != NULL) {
        queue_to_send(stream);
    } else {
        if (stream->eof_wanted)
            shutdown(stream->fd, SHUT_WR);
        if (stream->notify_empty)
            event->what |= UL_STREAM_EMPTY;
        stream->notify_empty = 0;
    }
    if (stream->notify_low && stream->queued <= stream->low_water) {
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
        if (stream->head != NULL && stream->send_token == 0) {
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
    return stream->receive_token == 0 && stream->send_token == 0 && stream->head == NULL;
}

/* One CQE of a stream; 1 if there is something that Python must hear. */
int ul_stream_complete(ul_ring *ring, const struct io_uring_cqe *cqe, ul_event *event)
{
    uint32_t slot = cqe->user_data >> UL_KIND_BITS & (MAX_SLOTS - 1);
    ul_stream *stream = slot < ring->slot_count ? ring->slots[slot] : NULL;
    if (stream == NULL)
        return 0;
    event->what = 0;
    event->res = cqe->res;
    event->flags = cqe->flags;
    event->stream = stream;
    if (cqe->user_data == stream->receive_token)
        complete_receive(stream, cqe, event);
    else if (cqe->user_data == stream->send_token)
        complete_send(stream, cqe, event);
    else
        return 0;
    if (stream->released != NULL)
        event->what |= UL_STREAM_RELEASED;
    if (stream->closing && ul_stream_quiet(stream))
        event->what |= UL_STREAM_CLOSED;
    return event->what != 0;
}

/* Shuts the sending side down once the queue is sent. */
int ul_stream_write_eof(ul_stream *stream)
{
    stream->eof_wanted = 1;
    if (stream->head == NULL && shutdown(stream->fd, SHUT_WR) < 0)
        return -errno;
    return 0;
}

/* Stops receiving and sends what is queued.  1 if the stream is closed at once, else UL_STREAM_CLOSED comes. */
int ul_stream_close(ul_stream *stream)
{
    stream->closing = 1;
    stream->wanted = 0;
    int error = cancel_receive(stream);
    return error < 0 ? error : ul_stream_quiet(stream);
}

/* The same without sending: the queue is dropped, a send under way is cancelled. */
int ul_stream_abort(ul_stream *stream)
{
    stream->aborted = 1;
    if (stream->send_token == 0) {
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

static void free_chunks(ul_chunk *chunk)
{
    while (chunk != NULL) {
        ul_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

/* Only when nothing of it is in flight. */
void ul_stream_free(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    unlink_stream(ring, stream);
    ring->slots[stream->slot] = NULL;
    ring->free_slots[ring->free_slot_count++] = stream->slot;
    free_chunks(stream->head);
    free_chunks(stream->released);
    free(stream->own_buffer);
    free(stream);
}

void ul_streams_close(ul_ring *ring)
{
    for (uint32_t slot = 0; slot < ring->slot_count; slot++)
        if (ring->slots[slot] != NULL)
            ul_stream_free(ring->slots[slot]);
    free_chunks(ring->spare_chunks);
    free(ring->slots);
    free(ring->free_slots);
}
