/* Streams or datagram sockets that wait for their turn: first come, first served. */
#ifndef UL_TURNS_H
#define UL_TURNS_H

#include <stddef.h>

typedef struct ul_turn ul_turn;

typedef struct {
    ul_turn *first, *last;
} ul_turns;

/* The first field of one that waits, in one place at a time. */
struct ul_turn {
    ul_turn *next;
    ul_turns *turns; /* those that it waits in, or NULL */
};

static inline void ul_turn_wait(ul_turns *turns, ul_turn *turn)
{
    if (turn->turns != NULL)
        return;
    turn->turns = turns;
    turn->next = NULL;
    if (turns->first == NULL)
        turns->first = turn;
    else
        turns->last->next = turn;
    turns->last = turn;
}

static inline void ul_turn_end(ul_turn *turn)
{
    ul_turns *turns = turn->turns;
    if (turns == NULL)
        return;
    ul_turn *before = NULL, **link = &turns->first;
    while (*link != turn) {
        before = *link;
        link = &before->next;
    }
    *link = turn->next;
    if (turns->last == turn)
        turns->last = before;
    turn->turns = NULL;
}

#endif
