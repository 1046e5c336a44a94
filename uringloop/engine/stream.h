/* The stream engine, a stream, and the functions that the engine's files share. */
#ifndef UL_STREAM_H
#define UL_STREAM_H

#include "../ring/core/internal.h"
#include "engine.h"
#include "send_queue.h"
#include "turns.h"

#define CURRENT_POSITION UINT64_MAX

typedef struct {
    ul_engine base;
    ul_ring *ring;
    ul_slots streams;
    ul_stream *to_send;  /* with bytes queued and no send staged */
    ul_turns to_receive; /* that want bytes and have no receive staged */
    ul_turns to_take;    /* that have received much lately, and that a poll has reported readable */
    ul_freelist freelist;
    uint32_t bulk_streams, bulk_streams_max; /* that receive by readiness because much comes */
    uint32_t short_answers; /* connections in a row that were closed by the callback that first wrote to them */
} ul_stream_engine;

struct ul_stream {
    ul_turn turn;
    ul_stream_engine *engine;
    void *owner;
    int fd;
    uint32_t slot;
    uint64_t receive_token, send_token; /* 0: not in flight */
    ul_stream *next_to_send;

    /* Bits, because a server may have very many streams. */
    uint32_t multishot : 1, wanted : 1, cancelling_receive : 1, cancelling_send : 1, queued_to_send : 1;
    uint32_t closing : 1, aborted : 1, ended : 1, eof_wanted : 1, poll_first : 1, notify_low : 1, notify_empty : 1;
    uint32_t pipe : 1, polls : 1, watches : 1, receive_polls : 1, send_polls : 1;
    uint32_t own_tcp : 1, sends_last : 1, finished : 1; /* finished: nothing can be sent any more */
    uint32_t wrote : 1, goes_on : 1; /* of own_tcp: in the batch of first_batch; and in another one, or longer */
    uint32_t bulk : 1;               /* by readiness, because much comes */
    uint32_t takes_much : 1;         /* the last take by readiness was much */
    uint8_t full_buffers;            /* how much speaks for bulk */
    uint8_t by_readiness;            /* so many receives more by readiness, though it has a group */
    uint8_t much_lately;             /* so many takes more it waits for its turn */
    uint16_t watched_events;
    uint32_t first_batch; /* the number of a batch of writes */
    int32_t send_error;   /* of a send(2): a socket tells of it once */

    ul_queue queue;
    size_t low_water;
};

static inline ul_ring *ring_of(const ul_stream *stream) { return stream->engine->ring; }

int ul_stream_stage_poll(ul_stream *stream, uint32_t events, uint32_t kind, uint64_t *token);

int ul_stream_stage_receive(ul_stream *stream);
int ul_stream_cancel_receive(ul_stream *stream);
void ul_stream_complete_receive(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome);
void ul_stream_leave_bulk(ul_stream *stream);

int ul_streams_stage_sends(ul_stream_engine *engine);
int ul_streams_send_waiting(ul_stream_engine *engine, int all);
int ul_streams_give_turns_waiting(ul_stream_engine *engine, ul_outcome *outcomes, uint32_t capacity);
void ul_stream_send_chunks(ul_stream *stream, int pinned);
void ul_stream_send_last(ul_stream *stream);
void ul_stream_note_close(ul_stream *stream);
void ul_stream_complete_send(ul_stream *stream, const struct io_uring_cqe *cqe, ul_outcome *outcome);
void ul_stream_drop_queue(ul_stream *stream);

#endif
