/* The receiving half of the datagram engine (datagram.c).
 *
 * Coalescing: with UDP_GRO the kernel joins datagrams of one sender that arrive in a row, and those of a message of
 * UDP_SEGMENT stay joined.  A control message behind the name tells the length of each but the last.  64 KiB is the
 * most that comes at once, a fourth of a buffer.  The socket gets the option when several datagrams came in one batch.
 * The option costs a system call, and the kernel changes its own code for the machine's first socket that has it.
 *
 * Joined datagrams are received by readiness.  One system call for so many costs little.  The shared memory stays in
 * the cache, while the buffers of a group take turns.
 *
 * No other code may meet joined datagrams, so the option ends where the socket is handed out.  The kernel tells the
 * length only while the option is set.  So the socket must be found empty after the option has ended, or the option is
 * set again, and the socket emptied again.
 */
#define _GNU_SOURCE
#include "datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define UDP_GRO_OPTION 104
#define MANY_ARRIVED 4  /* so many datagrams in one batch speak for coalescing */
#define JOINED_TAKES 64 /* so many more receives go by readiness after joined datagrams */
#define RET_CODE 6      /* of a classic BPF program, which drops a packet by returning 0 */

_Static_assert(UL_CONTROL_SIZE == CMSG_SPACE(sizeof(int)), "room for the length of a segment");
_Static_assert(UL_DATAGRAM_HEAD_SIZE % 8 == 0 && UL_DATAGRAM_BUFFER_SIZE % 8 == 0, "alignment of control data");

int ul_datagram_stage_receive(ul_datagram *datagram)
{
    static const struct msghdr room_for_name = {.msg_namelen = UL_NAME_SIZE};
    static const struct msghdr room_for_both = {.msg_namelen = UL_NAME_SIZE, .msg_controllen = UL_CONTROL_SIZE};
    ul_ring *ring = datagram->ring;
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
    if (sqe == NULL)
        return error;
    sqe->fd = datagram->fd;
    datagram->receive_polls = !datagram->multishot || datagram->by_readiness || datagram->announces;
    if (datagram->announces) {
        sqe->opcode = IORING_OP_NOP;
    } else if (datagram->receive_polls) {
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->op_flags = POLLIN;
    } else {
        sqe->opcode = IORING_OP_RECVMSG;
        sqe->len = 1;
        sqe->flags = IOSQE_BUFFER_SELECT;
        sqe->ioprio = IORING_RECV_MULTISHOT;
        sqe->buf_index = UL_GROUP_DATAGRAM;
        sqe->addr = (uint64_t)(uintptr_t)(datagram->control_size ? &room_for_both : &room_for_name);
    }
    datagram->receive_token = sqe->user_data = ul_slot_token(ring, datagram->slot, UL_KIND_DATAGRAM_RECEIVE);
    datagram->cancelling_receive = 0;
    return 0;
}

/* Receive from now on, until held. */
int ul_datagram_receive(ul_datagram *datagram)
{
    if (datagram->closing)
        return 0;
    datagram->wanted = 1;
    if (datagram->receive_token != 0 || datagram->turn.turns != NULL)
        return 0;
    return ul_datagram_stage_receive(datagram);
}

int ul_datagram_cancel_receive(ul_datagram *datagram)
{
    if (datagram->receive_token == 0 || datagram->cancelling_receive)
        return 0;
    datagram->cancelling_receive = 1;
    return ul_stage_cancel(datagram->ring, datagram->receive_token);
}

/* Takes no more from the socket from the next enter on; datagrams taken before still come.  Returns whether a receive
 * is being cancelled for that. */
int ul_datagram_hold(ul_datagram *datagram)
{
    datagram->wanted = 0;
    if (datagram->receive_token == 0 || datagram->receive_polls)
        return 0;
    int error = ul_datagram_cancel_receive(datagram);
    return error < 0 ? error : 1;
}

static void queue_to_receive(ul_datagram *datagram)
{
    if (datagram->wanted)
        ul_turn_wait(&datagram->engine->to_receive, &datagram->turn);
}

/* Recycles the buffer of a UL_DATAGRAM_DATA outcome. */
void ul_datagram_recycle(ul_datagram *datagram, const ul_outcome *outcome)
{
    ul_buffer_recycle(datagram->ring, UL_GROUP_DATAGRAM, outcome->buffer_id, datagram);
}

/* The place of the bytes in a received message: behind io_uring_recvmsg_out, the name and the control data. */
uint32_t ul_datagram_payload_offset(const ul_datagram *datagram)
{
    return UL_DATAGRAM_HEAD_SIZE + datagram->control_size;
}

/* The length of each of the joined datagrams but the last, which may be shorter; 0: it is one datagram. */
uint32_t ul_datagram_segment_size(const ul_datagram *datagram, const char *data)
{
    struct io_uring_recvmsg_out out;
    memcpy(&out, data, sizeof(out));
    if (!datagram->coalesced || out.controllen < CMSG_LEN(sizeof(int)))
        return 0;
    struct msghdr message = {.msg_control = (char *)(uintptr_t)data + UL_DATAGRAM_HEAD_SIZE,
                             .msg_controllen = datagram->control_size};
    const struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    if (control == NULL || control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO_OPTION)
        return 0;
    int size = 0;
    memcpy(&size, CMSG_DATA(control), sizeof(size));
    return size > 0 && (uint32_t)size < out.payloadlen ? (uint32_t)size : 0;
}

static int set_coalescing(ul_datagram *datagram, int on)
{
    if (setsockopt(datagram->fd, IPPROTO_UDP, UDP_GRO_OPTION, &on, sizeof(on)) < 0)
        return 0;
    datagram->receives_coalesced = on != 0;
    datagram->coalesced |= on != 0;
    return 1;
}

static inline void note_arrival(ul_datagram *datagram, const void *data)
{
    if (!datagram->alone || datagram->receives_coalesced) {
        if (datagram->coalesced && ul_datagram_segment_size(datagram, data) > 0)
            datagram->by_readiness = JOINED_TAKES;
        return;
    }
    if (datagram->arrived_batch != datagram->engine->batch) {
        datagram->arrived_batch = datagram->engine->batch;
        datagram->arrived = 0;
    }
    if (++datagram->arrived == MANY_ARRIVED)
        datagram->alone = set_coalescing(datagram, 1) != 0; /* an older kernel has UDP_SEGMENT alone: ask it once */
}

/* Receives into UL_DATAGRAM_BUFFER_SIZE bytes, in the layout of a multishot recvmsg: 1, or a negative errno. */
int ul_datagram_receive_now(ul_datagram *datagram, void *buffer)
{
    struct io_uring_recvmsg_out *out = buffer;
    char *name = (char *)(out + 1);
    struct iovec vector = {(char *)buffer + ul_datagram_payload_offset(datagram), UL_DATAGRAM_SIZE_MAX};
    struct msghdr message = {.msg_name = name,
                             .msg_namelen = UL_NAME_SIZE,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = datagram->control_size ? name + UL_NAME_SIZE : NULL,
                             .msg_controllen = datagram->control_size};
    ssize_t size = recvmsg(datagram->fd, &message, MSG_DONTWAIT);
    if (size < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    datagram->ring->statistics.bytes_received += (uint64_t)size;
    *out = (struct io_uring_recvmsg_out){message.msg_namelen, (uint32_t)message.msg_controllen, (uint32_t)size,
                                         (uint32_t)message.msg_flags};
    note_arrival(datagram, buffer);
    return 1;
}

/* Takes a datagram that is there, after UL_DATAGRAM_READABLE, by ul_datagram_receive_now. EAGAIN: there is none, and
 * the next UL_DATAGRAM_READABLE comes as always; every other errno is of a datagram sent earlier. */
int ul_datagram_take(ul_datagram *datagram, void *buffer)
{
    if (!datagram->wanted)
        return -EAGAIN;
    datagram->by_readiness -= datagram->by_readiness > 0;
    int result = ul_datagram_receive_now(datagram, buffer);
    if (datagram->receive_token == 0)
        queue_to_receive(datagram);
    return result;
}

static void take_datagram(ul_datagram *datagram, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = datagram->ring;
    outcome->buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    outcome->data = ul_buffer_lend(ring, UL_GROUP_DATAGRAM, outcome->buffer_id, datagram);
    struct io_uring_recvmsg_out out;
    memcpy(&out, outcome->data, sizeof(out));
    ring->statistics.bytes_received += out.payloadlen;
    note_arrival(datagram, outcome->data);
    if (!datagram->closing)
        outcome->what |= UL_DATAGRAM_DATA;
    else
        ul_datagram_recycle(datagram, outcome);
}

void ul_datagram_complete_receive(ul_datagram *datagram, const struct io_uring_cqe *cqe, ul_outcome *outcome)
{
    ul_ring *ring = datagram->ring;
    int ended = !(cqe->flags & IORING_CQE_F_MORE);
    if (ended)
        datagram->receive_token = 0;
    if (datagram->receive_polls) {
        if (cqe->res == -ECANCELED || cqe->res == -EINTR)
            queue_to_receive(datagram);
        else if (datagram->wanted) {
            datagram->announces = 0;
            outcome->what |= UL_DATAGRAM_READABLE;
        }
        return;
    }
    if (cqe->res >= 0 && cqe->flags & IORING_CQE_F_BUFFER) {
        take_datagram(datagram, cqe, outcome);
        ring->statistics.rearms += ended;
        if (datagram->by_readiness > 0)
            ul_datagram_cancel_receive(datagram); /* refused: it goes on, and the next datagram asks again */
    } else if (cqe->res == -ENOBUFS) {
        ring->statistics.no_buffers++;
        datagram->by_readiness = 1;
        ul_buffers_found_empty(ring, UL_GROUP_DATAGRAM);
    } else if (cqe->res < 0 && cqe->res != -EINTR && cqe->res != -EAGAIN && cqe->res != -ECANCELED) {
        if (!datagram->closing)
            outcome->what |= UL_DATAGRAM_RECEIVE_ERROR;
    }
    if (ended)
        queue_to_receive(datagram);
}

/* --- the end of coalescing --- */

/* Has the next receive report UL_DATAGRAM_READABLE, behind all that was received before. */
int ul_datagram_announce(ul_datagram *datagram)
{
    datagram->announces = 1;
    return ul_datagram_cancel_receive(datagram);
}

/* Uses UDP_SEGMENT and UDP_GRO no more: other code may have the socket from now on.  1 if datagrams may be joined in
 * the socket: it is to be emptied by ul_datagram_receive_now, before ul_datagram_end_coalescing. */
int ul_datagram_share(ul_datagram *datagram)
{
    datagram->alone = 0;
    datagram->segment_max = 0;
    return datagram->receives_coalesced;
}

static int is_empty(const ul_datagram *datagram)
{
    struct pollfd descriptor = {.fd = datagram->fd, .events = POLLIN};
    return poll(&descriptor, 1, 0) >= 0 && !(descriptor.revents & POLLIN);
}

/* Ends UDP_GRO of a socket that was emptied: 1; or 0, if datagrams have come meanwhile. */
int ul_datagram_end_coalescing(ul_datagram *datagram)
{
    if (!set_coalescing(datagram, 0) || is_empty(datagram))
        return 1;
    return !set_coalescing(datagram, 1);
}

/* Has the socket drop all that arrives, as a full one does, or no more. */
void ul_datagram_drop_arriving(ul_datagram *datagram, int on)
{
    struct {
        uint16_t code;
        uint8_t jump_true, jump_false;
        uint32_t value;
    } drop = {RET_CODE, 0, 0, 0};
    struct {
        uint16_t count;
        void *instructions;
    } program = {1, &drop};
    if (on)
        setsockopt(datagram->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
    else
        setsockopt(datagram->fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof(on));
}
