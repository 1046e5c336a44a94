/* Bytes that wait to be sent, in order. */
#ifndef UL_SEND_QUEUE_H
#define UL_SEND_QUEUE_H

#include <stddef.h>
#include <stdint.h>

typedef struct ul_chunk ul_chunk;

typedef struct {
    ul_chunk *head, *tail, *released; /* released: pins that the owner has not been told of */
    size_t size;
} ul_queue;

/* Chunks that the next writes use again, of all queues of a ring. */
typedef struct {
    ul_chunk *first;
    uint32_t count;
} ul_freelist;

int ul_queue_copy(ul_freelist *freelist, ul_queue *queue, const void *data, size_t size, int head_in_flight);
int ul_queue_pin(ul_queue *queue, const void *data, size_t size, void *pin);
int ul_queue_begins_pinned(const ul_queue *queue);
int ul_queue_is_one_copy(const ul_queue *queue);
const char *ul_queue_head(const ul_queue *queue, size_t *size);
void ul_queue_sent(ul_freelist *freelist, ul_queue *queue, size_t size);
void ul_queue_cut(ul_freelist *freelist, ul_queue *queue, size_t size);
void ul_queue_drop(ul_freelist *freelist, ul_queue *queue);
void *ul_queue_released(ul_queue *queue);
void ul_queue_free(ul_queue *queue);
void ul_freelist_free(ul_freelist *freelist);

#endif
