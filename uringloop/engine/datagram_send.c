/* The sending half of the datagram engine (datagram.c).
 *
 * At once, by sendto(2), as asyncio does.  A datagram that the socket refuses waits here, and all later ones behind it,
 * so the order is kept.  SQEs gain nothing.  Measured: 32 clients on one socket, 1 KiB, CPU time of a bare C echo a
 * datagram (Linux 6.18, six runs).  sendto took 3.5 to 4.4 us, a SEND SQE each 3.6 to 4.4.  One sendmmsg a tick took
 * 3.5 to 4.4.  SQEs in one submit also overtake each other when one of them meets a full socket; linked, which forbids
 * that, they took 4.7 to 5.5.
 *
 * Held, where many go to one address: the kernel takes up to 64 datagrams of one length as one message, and cuts it
 * late (UDP_SEGMENT).  The last may be shorter.  The owner decides which ones are held.  They leave at the
 * end of the tick or of the callback, or as soon as a message is full.  A message that the kernel refuses for its
 * segments is sent one by one, and the length, or the option, is remembered as refused.  Every other error is that of
 * the first datagram, as with asyncio; the others are sent again.
 *
 * The queue: a poll waits for room, then sending goes on until the socket is full again or refuses a datagram.  A SEND
 * or SENDMSG that waits by itself does not serve.  The kernel may find the socket full after it has copied the
 * datagram: the receiver's queue of a unix socket, by its sources also UDP in fragments.  Its second attempt then sends
 * the uncopied rest, and the receiver gets an empty datagram [measured on 6.18].  poll reports room in an unconnected
 * unix socket whose receiver is full, so a refused sendto is tried again a little later.
 */
#define _GNU_SOURCE
#include "datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RETRY_NS 1000000
#define UDP_SEGMENT_OPTION 103
#define SEGMENTS_MAX 64
#define SEGMENTS_SIZE_MAX 65487 /* 64 KiB less the headers of IPv6 and UDP */
#define MANY_SENT 4             /* in a row to one address: the next ones wait for the end of their callback */

static int send_at_once(ul_datagram *datagram, const void *data, size_t size, const void *name, uint32_t name_size)
{
    ssize_t sent = sendto(datagram->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, name_size ? name : NULL, name_size);
    if (sent < 0)
        return -errno;
    datagram->ring->statistics.bytes_sent += (uint64_t)sent;
    return 0;
}

/* One datagram, or several of the queue as the segments of one message. */
static int send_segments(ul_datagram *datagram, int count)
{
    struct iovec vectors[SEGMENTS_MAX];
    ul_packet *packet = datagram->head;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(uint16_t))];
    } control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT_OPTION}};
    uint16_t size = (uint16_t)packet->size;
    memcpy(CMSG_DATA(&control.header), &size, sizeof(size));
    struct msghdr message = {.msg_name = packet->name_size ? packet->name : NULL,
                             .msg_namelen = packet->name_size,
                             .msg_iov = vectors,
                             .msg_iovlen = (size_t)count,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    for (int i = 0; i < count; i++, packet = packet->next)
        vectors[i] = (struct iovec){packet->data, packet->size};
    ssize_t sent = sendmsg(datagram->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return -errno;
    datagram->ring->statistics.bytes_sent += (uint64_t)sent;
    return 0;
}

static void queue_to_send(ul_datagram *datagram)
{
    if (datagram->queued_to_send || datagram->send_token != 0)
        return;
    datagram->queued_to_send = 1;
    datagram->next_to_send = datagram->engine->to_send;
    datagram->engine->to_send = datagram;
}

static int append(ul_datagram *datagram, const void *data, size_t size, const void *name, uint32_t name_size)
{
    ul_packet *packet = malloc(sizeof(*packet) + size);
    if (packet == NULL)
        return -ENOMEM;
    packet->next = NULL;
    packet->size = size;
    packet->name_size = name_size;
    if (name_size > 0)
        memcpy(packet->name, name, name_size);
    if (size > 0)
        memcpy(packet->data, data, size);
    if (datagram->tail != NULL)
        datagram->tail->next = packet;
    else
        datagram->head = packet;
    datagram->tail = packet;
    datagram->queued += size + datagram->overhead;
    queue_to_send(datagram);
    return 0;
}

static void drop_head(ul_datagram *datagram)
{
    ul_packet *packet = datagram->head;
    datagram->head = packet->next;
    if (datagram->head == NULL)
        datagram->tail = NULL;
    datagram->queued -= packet->size + datagram->overhead;
    free(packet);
}

static int same_name(const ul_packet *first, const ul_packet *second)
{
    return first->name_size == second->name_size && memcmp(first->name, second->name, first->name_size) == 0;
}

/* The number of datagrams at the head of the queue that may leave as one message. */
static int count_segments(const ul_datagram *datagram)
{
    const ul_packet *first = datagram->head, *packet = first;
    size_t size = first->size;
    int count = 1;
    if (first->size == 0 || first->size > datagram->segment_max)
        return 1;
    while (packet->size == first->size && (packet = packet->next) != NULL && count < SEGMENTS_MAX) {
        size += packet->size;
        if (packet->size == 0 || packet->size > first->size || size > SEGMENTS_SIZE_MAX || !same_name(first, packet))
            break;
        count++;
    }
    return count;
}

void ul_datagram_drop_queue(ul_datagram *datagram)
{
    while (datagram->head != NULL)
        drop_head(datagram);
}

/* Sends what is queued until the socket is full: 0, or the errno of the datagram that it refused, which is dropped. */
static int send_queue(ul_datagram *datagram)
{
    int one_by_one = 0, refusal = 0;
    datagram->held = 0;
    while (datagram->head != NULL) {
        ul_packet *packet = datagram->head;
        size_t size = packet->size;
        int count = one_by_one > 0 ? 1 : count_segments(datagram);
        int error = count > 1 ? send_segments(datagram, count)
                              : send_at_once(datagram, packet->data, size, packet->name, packet->name_size);
        if (error == -EAGAIN)
            return 0;
        if (count > 1 && (error == -EMSGSIZE || error == -EIO || error == -EINVAL)) {
            one_by_one = count;
            refusal = error;
            continue;
        }
        if (refusal < 0 && error == 0)
            datagram->segment_max = refusal == -EIO ? 0 : (uint32_t)size - 1;
        refusal = 0;
        one_by_one -= one_by_one > 0;
        for (int sent = 0; sent < (error < 0 ? 1 : count); sent++)
            drop_head(datagram);
        if (error < 0)
            return error;
    }
    return 0;
}

/* Sends what is held, as far as the socket takes it.  The ring tells of an error, and then the others are sent. */
void ul_datagram_send_held(ul_datagram *datagram)
{
    if (!datagram->held || datagram->send_error < 0 || datagram->ring->dropped)
        return;
    datagram->send_error = send_queue(datagram);
    datagram->held = datagram->send_error < 0 && datagram->head != NULL;
}

/* The errno of a datagram that was held, which the ring then tells no more; or 0. */
int ul_datagram_take_error(ul_datagram *datagram)
{
    int error = datagram->send_error;
    datagram->send_error = 0;
    return error;
}

/* The same of all datagram sockets. */
void ul_datagrams_send(ul_ring *ring)
{
    ul_datagram_engine *engine = (ul_datagram_engine *)ring->engines[UL_KIND_DATAGRAM_RECEIVE];
    if (engine == NULL || ring->dropped)
        return;
    ul_datagram **link = &engine->to_send;
    while (*link != NULL) {
        ul_datagram *datagram = *link;
        ul_datagram_send_held(datagram);
        if (datagram->head == NULL && datagram->send_error == 0) {
            datagram->queued_to_send = 0;
            *link = datagram->next_to_send;
        } else {
            link = &datagram->next_to_send;
        }
    }
}

/* Most names have one size, for which the compiler needs no call. */
static int is_last_name(const ul_datagram *datagram, const void *name, uint32_t size)
{
    if (size != datagram->last_name_size)
        return 0;
    if (size == sizeof(struct sockaddr_in))
        return memcmp(name, datagram->last_name, sizeof(struct sockaddr_in)) == 0;
    return memcmp(name, datagram->last_name, size) == 0;
}

static void keep_last_name(ul_datagram *datagram, const void *name, uint32_t size)
{
    datagram->last_name_size = size;
    if (size == sizeof(struct sockaddr_in))
        memcpy(datagram->last_name, name, sizeof(struct sockaddr_in));
    else
        memcpy(datagram->last_name, name, size);
}

/* Notes a datagram that is about to be sent.  0: it is the first to its address in this batch, or cannot be a segment.
 * 1: it is a later one.  2: many are sent in a row. */
int ul_datagram_note_send(ul_datagram *datagram, size_t size_bytes, const void *name, uint32_t name_size)
{
    if (size_bytes == 0 || size_bytes > datagram->segment_max)
        return 0;
    if (datagram->sent_batch != datagram->engine->batch) {
        datagram->sent_batch = datagram->engine->batch;
        datagram->longest_run_before = datagram->longest_run;
        datagram->longest_run = datagram->run = 0;
    }
    if (datagram->run == 0 || !is_last_name(datagram, name, name_size)) {
        keep_last_name(datagram, name, name_size);
        datagram->run = 1;
        return 0;
    }
    if (++datagram->run > datagram->longest_run)
        datagram->longest_run = datagram->run;
    return datagram->run > MANY_SENT || datagram->longest_run_before > MANY_SENT ? 2 : 1;
}

/* Holds a copy of a datagram, to leave with others: 0, 1 if the socket is full and the copy is queued, or -ENOMEM.
 * Bytes above high_water do not wait. */
int ul_datagram_hold_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name,
                          uint32_t name_size, size_t high_water_bytes)
{
    if (datagram->held_size + size_bytes > SEGMENTS_SIZE_MAX)
        ul_datagram_send_held(datagram);
    if (datagram->head == NULL) {
        datagram->held = 1;
        datagram->held_count = 0;
        datagram->held_size = 0;
    }
    int error = append(datagram, data, size_bytes, name, name_size);
    if (error < 0)
        return error;
    if (!datagram->held)
        return 1;
    datagram->held_size += size_bytes;
    if (++datagram->held_count >= SEGMENTS_MAX || datagram->queued > high_water_bytes)
        ul_datagram_send_held(datagram);
    return datagram->head != NULL && !datagram->held;
}

/* Sends a datagram, or queues a copy of it behind those that wait: 0, 1 if it was queued, or a negative errno.
 * Without a name (name_size 0) it goes to the peer of a connected socket. */
int ul_datagram_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name, uint32_t name_size,
                     int may_queue)
{
    int error = -EAGAIN;
    if (datagram->held)
        ul_datagram_send_held(datagram);
    if (datagram->head == NULL && datagram->send_error == 0)
        error = send_at_once(datagram, data, size_bytes, name, name_size);
    if (error != -EAGAIN || !may_queue)
        return error;
    error = append(datagram, data, size_bytes, name, name_size);
    return error < 0 ? error : 1;
}

/* Lets datagrams be segments of a message, and be received joined: no other code has the socket.  0 if the kernel has
 * no UDP_SEGMENT, or it is no UDP socket. */
int ul_datagram_allow_segments(ul_datagram *datagram)
{
    int size = 0;
    socklen_t size_size = sizeof(size);
    if (!datagram->udp || getsockopt(datagram->fd, IPPROTO_UDP, UDP_SEGMENT_OPTION, &size, &size_size) < 0)
        return 0;
    datagram->segment_max = SEGMENTS_SIZE_MAX / 2;
    datagram->alone = 1;
    return 1;
}

/* Waits until the head of the queue may be tried again. */
int ul_datagram_stage_retry(ul_datagram *datagram)
{
    static const struct ul_timespec a_while = {0, RETRY_NS};
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(datagram->ring, &error);
    if (sqe == NULL)
        return error;
    if (datagram->poll_lied) {
        sqe->opcode = IORING_OP_TIMEOUT;
        sqe->addr = (uint64_t)(uintptr_t)&a_while;
        sqe->len = 1;
        sqe->fd = -1;
    } else {
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->fd = datagram->fd;
        sqe->op_flags = POLLOUT;
    }
    datagram->send_token = sqe->user_data = ul_slot_token(datagram->ring, datagram->slot, UL_KIND_DATAGRAM_SEND);
    datagram->cancelling_send = 0;
    return 0;
}

void ul_datagram_complete_retry(ul_datagram *datagram, ul_outcome *outcome)
{
    size_t before = datagram->queued;
    datagram->send_token = 0;
    if (datagram->aborted)
        return;
    int error = datagram->send_error < 0 ? ul_datagram_take_error(datagram) : send_queue(datagram);
    if (error < 0) {
        outcome->res = error;
        outcome->what |= UL_DATAGRAM_SEND_ERROR;
    }
    datagram->poll_lied = error == 0 && datagram->queued == before;
    if (datagram->head != NULL)
        queue_to_send(datagram);
    if (datagram->notify_low && datagram->queued <= datagram->low_water) {
        datagram->notify_low = 0;
        outcome->what |= UL_DATAGRAM_LOW;
    }
}

/* Bytes queued, with the overhead of each datagram. */
size_t ul_datagram_queued(ul_datagram *datagram) { return datagram->queued; }

void ul_datagram_notify_low(ul_datagram *datagram, size_t low_water_bytes)
{
    datagram->notify_low = 1;
    datagram->low_water = low_water_bytes;
}
