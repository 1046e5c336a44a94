/* The stream engine: a connected socket's receive, which arms itself again, and its ordered send queue.
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
 * Closing: a pending receive holds its socket (no FIN would be sent, and it would eat data), so it is cancelled, and the
 * stream is closed when nothing of it is in flight.  Under DEFER_TASKRUN a cancelled receive leaves data in the socket.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CHUNK_SIZE (16 * 1024)
#define SPARE_CHUNKS 256
#define OWN_BUFFER_SIZE (64 * 1024)
#define SEND_MAX (1 << 30)

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
    uint8_t own_lent; /* own_buffer holds bytes that Python has not taken yet */

    ul_chunk *head, *tail, *released;
    size_t queued, low_water;

    char *own_buffer;
};

ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, int multishot)
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
    stream->multishot = multishot && ring->buffers[UL_GROUP_STREAM].entries != NULL;
    return stream;
}

/* --- receiving --- */

/* Own buffers are kept by the ring when their streams go: given back to malloc in thousands they fragment its heap. */
static int take_own_buffer(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    if (ring->spare_buffers != NULL) {
        stream->own_buffer = ring->spare_buffers;
        memcpy(&ring->spare_buffers, stream->own_buffer, sizeof(char *));
    } else {
        stream->own_buffer = malloc(OWN_BUFFER_SIZE);
    }
    return stream->own_buffer == NULL ? -ENOMEM : 0;
}

static void give_own_buffer(ul_stream *stream)
{
    if (stream->own_buffer == NULL)
        return;
    memcpy(stream->own_buffer, &stream->ring->spare_buffers, sizeof(char *));
    stream->ring->spare_buffers = stream->own_buffer;
}

static int stage_receive(ul_stream *stream)
{
    ul_ring *ring = stream->ring;
    int error;
    if (!stream->multishot && stream->own_buffer == NULL && take_own_buffer(stream) < 0)
        return -ENOMEM;
    struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = stream->fd;
    if (stream->multishot) {
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = IORING_RECV_MULTISHOT;
    } else {
        sqe->addr = (uint64_t)(uintptr_t)stream->own_buffer;
        sqe->len = OWN_BUFFER_SIZE;
    }
    stream->receive_token = sqe->user_data = ul_slot_token(ring, stream->slot, UL_KIND_RECEIVE);
    stream->cancelling_receive = 0;
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

static void complete_receive(ul_stream *stream, const struct io_uring_cqe *cqe, ul_event *event)
{
    ul_ring *ring = stream->ring;
    int ended = !(cqe->flags & IORING_CQE_F_MORE);
    if (ended)
        stream->receive_token = 0;
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

static int stage_send(ul_stream *stream)
{
    int error;
    ul_chunk *chunk = stream->head;
    struct io_uring_sqe *sqe = ul_next_sqe(stream->ring, &error);
    if (sqe == NULL)
        return error;
    size_t left = chunk->size - chunk->sent;
    sqe->opcode = IORING_OP_SEND;
    sqe->fd = stream->fd;
    sqe->addr = (uint64_t)(uintptr_t)(chunk->data + chunk->sent);
    sqe->len = left > SEND_MAX ? SEND_MAX : (uint32_t)left;
    sqe->op_flags = MSG_NOSIGNAL | MSG_WAITALL;
    sqe->ioprio = stream->poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
    stream->poll_first = 0;
    stream->send_token = sqe->user_data = ul_slot_token(stream->ring, stream->slot, UL_KIND_SEND);
    stream->cancelling_send = 0;
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

/* Sends without the ring what an idle stream's socket takes right now; 0 if anything is queued or the send fails, since
 * the queued send then tells why. */
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes)
{
    if (stream->head != NULL || stream->closing)
        return 0;
    ssize_t sent = send(stream->fd, data, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
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
    if (cqe->res >= 0) {
        ul_chunk *chunk = stream->head;
        stream->ring->statistics.bytes_sent += (uint64_t)cqe->res;
        chunk->sent += (size_t)cqe->res;
        stream->queued -= (size_t)cqe->res;
        if (chunk->sent == chunk->size)
            drop_head(stream);
    } else if (cqe->res == -EAGAIN) {
        stream->poll_first = 1;
    } else if (cqe->res != -EINTR) {
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
    if (stream->ring->forgotten) {
        /* In a forked child: what is in flight is the parent's, and what is queued the parent sends. */
        stream->receive_token = stream->send_token = 0;
        drop_queue(stream);
    }
    int error = cancel_receive(stream);
    return error < 0 ? error : ul_stream_quiet(stream);
}

/* Sends without the ring what the socket takes right now: asyncio's write has done so by then, and what protocols write
 * last, before they abort, says why. */
static void send_queue_now(ul_stream *stream)
{
    while (stream->head != NULL) {
        ul_chunk *chunk = stream->head;
        ssize_t sent = send(stream->fd, chunk->data + chunk->sent, chunk->size - chunk->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            return;
        stream->ring->statistics.bytes_sent += (uint64_t)sent;
        chunk->sent += (size_t)sent;
        stream->queued -= (size_t)sent;
        if (chunk->sent < chunk->size)
            return;
        drop_head(stream);
    }
}

/* The same without waiting: what the socket does not take at once is dropped, a send under way is cancelled. */
int ul_stream_abort(ul_stream *stream)
{
    stream->aborted = 1;
    if (stream->send_token == 0) {
        if (!stream->ring->forgotten)
            send_queue_now(stream);
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
    ul_slot_give_back(&ring->streams, stream->slot);
    free_chunks(stream->head);
    free_chunks(stream->released);
    give_own_buffer(stream);
    free(stream);
}

void ul_streams_close(ul_ring *ring)
{
    for (uint32_t slot = 0; slot < ring->streams.count; slot++)
        if (ring->streams.entries[slot] != NULL)
            ul_stream_free(ring->streams.entries[slot]);
    free_chunks(ring->spare_chunks);
    while (ring->spare_buffers != NULL) {
        char *buffer = ring->spare_buffers;
        memcpy(&ring->spare_buffers, buffer, sizeof(char *));
        free(buffer);
    }
    ul_slots_close(&ring->streams);
}
