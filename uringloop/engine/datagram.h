/* The datagram engine, a datagram socket, and the functions that the engine's files share. */
#ifndef UL_DATAGRAM_H
#define UL_DATAGRAM_H

#include "../ring/core/internal.h"
#include "engine.h"
#include "turns.h"

typedef struct ul_packet ul_packet;

struct ul_packet {
    ul_packet *next;
    size_t size;
    uint32_t name_size;
    char name[UL_NAME_SIZE];
    char data[];
};

typedef struct {
    ul_engine base;
    ul_slots datagrams;
    ul_datagram *to_send; /* with datagrams queued, or an error to tell, and no retry staged */
    ul_turns to_receive;  /* that want datagrams and have no receive staged */
    uint32_t batch;       /* counts the enters: the datagrams of one tick come and go in one batch */
} ul_datagram_engine;

struct ul_datagram {
    ul_turn turn;
    ul_ring *ring;
    ul_datagram_engine *engine;
    void *owner;
    int fd;
    uint32_t slot, overhead;
    uint64_t receive_token, send_token; /* 0: not in flight */
    ul_datagram *next_to_send;
    uint8_t multishot, wanted, cancelling_receive, cancelling_send, queued_to_send;
    uint8_t closing, aborted, notify_low, poll_lied;
    uint8_t by_readiness;  /* so many receives more by readiness, though it has a group */
    uint8_t receive_polls; /* a poll is in flight, or a NOP */

    ul_packet *head, *tail;
    size_t queued, low_water;

    /* Coalescing: only of a UDP socket that no other code has. */
    uint8_t udp, alone;         /* alone: nothing else has the socket, so the options may be used */
    uint8_t receives_coalesced; /* UDP_GRO is on */
    uint8_t coalesced;          /* it was on once */
    uint8_t announces;          /* the next receive is a NOP, which reports the socket readable */
    uint8_t held;               /* the queue waits for the end of the tick or of the callback, not for the socket */
    uint32_t control_size;      /* the room for control data behind the name */
    uint32_t segment_max;       /* the largest datagram that may be a segment; 0: there are none */
    uint32_t held_count;
    size_t held_size;
    int32_t send_error; /* of a datagram that was held: told as soon as the ring comes to it */
    uint32_t arrived_batch, arrived;
    uint32_t sent_batch, run, longest_run, longest_run_before; /* datagrams in a row to one address, in a batch */
    uint32_t last_name_size;
    char last_name[UL_NAME_SIZE];
};

int ul_datagram_stage_receive(ul_datagram *datagram);
int ul_datagram_cancel_receive(ul_datagram *datagram);
void ul_datagram_complete_receive(ul_datagram *datagram, const struct io_uring_cqe *cqe, ul_outcome *outcome);

int ul_datagram_stage_retry(ul_datagram *datagram);
void ul_datagram_complete_retry(ul_datagram *datagram, ul_outcome *outcome);
void ul_datagram_drop_queue(ul_datagram *datagram);

#endif
