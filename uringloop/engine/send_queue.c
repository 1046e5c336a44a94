/* Bytes that wait to be sent, in order: copied into chunks that small writes share, or pinned where the caller has
 * them. */
#define _GNU_SOURCE
#include "send_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE (16 * 1024)
#define FREE_CHUNKS_MAX 256

struct ul_chunk {
    ul_chunk *next;
    const char *data;
    size_t size, sent, capacity; /* capacity 0: pinned memory of the caller */
    void *pin;
    char storage[];
};

static ul_chunk *make_chunk(size_t capacity)
{
    ul_chunk *chunk = malloc(sizeof(*chunk) + capacity);
    if (chunk == NULL)
        return NULL;
    memset(chunk, 0, sizeof(*chunk));
    chunk->capacity = capacity;
    chunk->data = chunk->storage;
    return chunk;
}

static ul_chunk *take_chunk(ul_freelist *freelist, size_t size)
{
    ul_chunk *chunk = freelist->first;
    if (size > CHUNK_SIZE || chunk == NULL)
        return make_chunk(size < CHUNK_SIZE ? CHUNK_SIZE : size);
    freelist->first = chunk->next;
    freelist->count--;
    chunk->next = NULL;
    chunk->size = chunk->sent = 0;
    return chunk;
}

/* Keeps a chunk that left the queue for its owner if it is pinned, for the next write if it is usual, or frees it. */
static void drop(ul_freelist *freelist, ul_queue *queue, ul_chunk *chunk)
{
    if (chunk->capacity == 0) {
        chunk->next = queue->released;
        queue->released = chunk;
    } else if (chunk->capacity == CHUNK_SIZE && freelist->count < FREE_CHUNKS_MAX) {
        chunk->next = freelist->first;
        freelist->first = chunk;
        freelist->count++;
    } else {
        free(chunk);
    }
}

static void drop_head(ul_freelist *freelist, ul_queue *queue)
{
    ul_chunk *chunk = queue->head;
    queue->head = chunk->next;
    if (queue->head == NULL)
        queue->tail = NULL;
    queue->size -= chunk->size - chunk->sent;
    drop(freelist, queue, chunk);
}

static void append(ul_queue *queue, ul_chunk *chunk)
{
    if (queue->tail != NULL)
        queue->tail->next = chunk;
    else
        queue->head = chunk;
    queue->tail = chunk;
}

/* Small writes share a chunk with those before them, unless the kernel has been given that chunk.  All or nothing. */
int ul_queue_copy(ul_freelist *freelist, ul_queue *queue, const void *data, size_t size, int head_in_flight)
{
    ul_chunk *tail = queue->tail;
    size_t part = 0;
    if (tail != NULL && tail->capacity > tail->size && (tail != queue->head || !head_in_flight)) {
        part = tail->capacity - tail->size;
        part = size < part ? size : part;
    }
    if (size > part) {
        ul_chunk *chunk = take_chunk(freelist, size - part);
        if (chunk == NULL)
            return -ENOMEM;
        memcpy(chunk->storage, (const char *)data + part, size - part);
        chunk->size = size - part;
        append(queue, chunk);
    }
    if (part > 0) {
        memcpy(tail->storage + tail->size, data, part);
        tail->size += part;
    }
    queue->size += size;
    return 0;
}

int ul_queue_pin(ul_queue *queue, const void *data, size_t size, void *pin)
{
    ul_chunk *chunk = make_chunk(0);
    if (chunk == NULL)
        return -ENOMEM;
    chunk->data = data;
    chunk->size = size;
    chunk->pin = pin;
    queue->size += size;
    append(queue, chunk);
    return 0;
}

int ul_queue_begins_pinned(const ul_queue *queue) { return queue->head->capacity == 0; }

/* Of a queue that is not empty: whether it is one chunk of copied bytes. */
int ul_queue_is_one_copy(const ul_queue *queue) { return queue->head == queue->tail && queue->head->capacity > 0; }

/* The first bytes of a queue that is not empty. */
const char *ul_queue_head(const ul_queue *queue, size_t *size)
{
    const ul_chunk *chunk = queue->head;
    *size = chunk->size - chunk->sent;
    return chunk->data + chunk->sent;
}

/* So many of them were sent. */
void ul_queue_sent(ul_freelist *freelist, ul_queue *queue, size_t size)
{
    ul_chunk *chunk = queue->head;
    chunk->sent += size;
    queue->size -= size;
    if (chunk->sent == chunk->size)
        drop_head(freelist, queue);
}

/* Takes the last bytes back, none of which the kernel has been given. */
void ul_queue_cut(ul_freelist *freelist, ul_queue *queue, size_t size)
{
    ul_chunk **link = &queue->head, *last = NULL;
    queue->size -= size;
    for (size_t keep = queue->size; keep > 0; link = &last->next) {
        last = *link;
        if (last->size - last->sent > keep)
            last->size = last->sent + keep;
        keep -= last->size - last->sent;
    }
    ul_chunk *chunk = *link;
    *link = NULL;
    queue->tail = last;
    while (chunk != NULL) {
        ul_chunk *next = chunk->next;
        drop(freelist, queue, chunk);
        chunk = next;
    }
}

void ul_queue_drop(ul_freelist *freelist, ul_queue *queue)
{
    while (queue->head != NULL)
        drop_head(freelist, queue);
}

/* The next pin that is needed no more, or NULL. */
void *ul_queue_released(ul_queue *queue)
{
    ul_chunk *chunk = queue->released;
    if (chunk == NULL)
        return NULL;
    void *pin = chunk->pin;
    queue->released = chunk->next;
    free(chunk);
    return pin;
}

static void free_chunks(ul_chunk *chunk)
{
    while (chunk != NULL) {
        ul_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void ul_queue_free(ul_queue *queue)
{
    free_chunks(queue->head);
    free_chunks(queue->released);
}

void ul_freelist_free(ul_freelist *freelist) { free_chunks(freelist->first); }
