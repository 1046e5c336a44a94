/* The engines on top of the core: of streams, and of datagram sockets.  Each is made with its ring's first. */
#ifndef UL_ENGINE_H
#define UL_ENGINE_H

#include "../ring/core/core.h"

typedef struct ul_stream ul_stream;
typedef struct ul_datagram ul_datagram;

/* Kinds of tokens. */
enum {
    UL_KIND_STREAM_RECEIVE = UL_KIND_ENGINES,
    UL_KIND_STREAM_SEND,
    UL_KIND_DATAGRAM_RECEIVE,
    UL_KIND_DATAGRAM_SEND,
};

/* Groups of receive buffers, beside UL_GROUP_BYTES. */
enum {
    UL_GROUP_DATAGRAM = 1,
};

#define UL_NAME_SIZE 128            /* room for the address of any family */
#define UL_DATAGRAM_SIZE_MAX 262144 /* what asyncio receives at most */
#define UL_CONTROL_SIZE 24          /* room for the length of joined datagrams */
#define UL_DATAGRAM_HEAD_SIZE (16 + UL_NAME_SIZE)
#define UL_DATAGRAM_BUFFER_SIZE (UL_DATAGRAM_HEAD_SIZE + UL_CONTROL_SIZE + UL_DATAGRAM_SIZE_MAX)

enum {
    UL_STREAM_DATA = 1, /* the outcome's data: res bytes */
    UL_STREAM_EOF = 2,
    UL_STREAM_RECEIVE_ERROR = 4, /* res is the negative errno */
    UL_STREAM_LOW = 8,           /* the send queue fell to the low-water mark */
    UL_STREAM_RELEASED = 16,
    UL_STREAM_CLOSED = 32, /* the kernel has released the socket: it may be closed */
    UL_STREAM_EMPTY = 64,  /* the send queue is empty, as asked by ul_stream_notify_empty */
    UL_STREAM_SEND_ERROR = 128,
    UL_STREAM_HANGUP = 256,   /* what ul_stream_watch waits for; res: whether something was queued */
    UL_STREAM_READABLE = 512, /* ul_stream_take may find something */
};

enum {
    UL_DATAGRAM_DATA = 1, /* data: a struct io_uring_recvmsg_out, UL_NAME_SIZE bytes of address, control data, bytes */
    UL_DATAGRAM_RECEIVE_ERROR = 2, /* res is the negative errno; receiving goes on */
    UL_DATAGRAM_SEND_ERROR = 4,    /* the same of a queued datagram, which is dropped */
    UL_DATAGRAM_LOW = 8,           /* the queue fell to the low-water mark */
    UL_DATAGRAM_CLOSED = 16,       /* the kernel has released the socket: it may be closed */
    UL_DATAGRAM_READABLE = 32,     /* ul_datagram_take may find something */
};

/* stream.c */
enum {
    UL_OPEN_MULTISHOT = 1, /* receive through the buffer group, if there is one */
    UL_OPEN_PIPE = 2,      /* READ and WRITE; else RECV and SEND */
    UL_OPEN_POLLS = 4,     /* poll before each READ and WRITE of a pipe */
    UL_OPEN_OWN_TCP = 8,   /* TCP, and no other code has the socket: the last bytes can wait for the FIN */
};
int ul_streams_allow_bulk(ul_ring *ring, uint32_t streams_max);
ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags);
int ul_stream_receive(ul_stream *stream);
void ul_stream_watch(ul_stream *stream, uint32_t events);
int ul_stream_hold(ul_stream *stream);
void ul_stream_recycle(ul_stream *stream, const ul_outcome *outcome);
int ul_stream_take(ul_stream *stream, void *buffer, size_t size_bytes);
int ul_stream_takes_much(ul_stream *stream);
int ul_streams_give_turns(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity);
int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes);
int ul_stream_write_pinned(ul_stream *stream, const void *data, size_t size_bytes, void *pin);
void ul_stream_send_queued(ul_stream *stream);
int ul_stream_may_be_last(ul_stream *stream);
int ul_streams_send(ul_ring *ring, int all);
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes);
size_t ul_stream_send_behind(ul_stream *stream, const void *data, size_t size_bytes);
int ul_stream_idle(ul_stream *stream);
void *ul_stream_released(ul_stream *stream);
int ul_stream_take_back(ul_stream *stream, size_t size_bytes);
size_t ul_stream_queued(ul_stream *stream);
int ul_stream_finished(ul_stream *stream);
int ul_stream_share(ul_stream *stream);
int ul_stream_is_alone(ul_stream *stream);
void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes);
void ul_stream_notify_empty(ul_stream *stream);
int ul_stream_write_eof(ul_stream *stream);
int ul_stream_close(ul_stream *stream);
int ul_stream_abort(ul_stream *stream);
void ul_stream_free(ul_stream *stream);

/* datagram.c */
ul_datagram *ul_datagram_open(ul_ring *ring, int fd, void *owner, int multishot, uint32_t overhead_bytes);
int ul_datagram_idle(ul_datagram *datagram);
int ul_datagram_close(ul_datagram *datagram);
int ul_datagram_abort(ul_datagram *datagram);
void ul_datagram_free(ul_datagram *datagram);

/* datagram_receive.c */
int ul_datagram_receive(ul_datagram *datagram);
int ul_datagram_hold(ul_datagram *datagram);
void ul_datagram_recycle(ul_datagram *datagram, const ul_outcome *outcome);
int ul_datagram_take(ul_datagram *datagram, void *buffer);
int ul_datagram_receive_now(ul_datagram *datagram, void *buffer);
uint32_t ul_datagram_payload_offset(const ul_datagram *datagram);
uint32_t ul_datagram_segment_size(const ul_datagram *datagram, const char *data);
int ul_datagram_announce(ul_datagram *datagram);
int ul_datagram_share(ul_datagram *datagram);
int ul_datagram_end_coalescing(ul_datagram *datagram);
void ul_datagram_drop_arriving(ul_datagram *datagram, int on);

/* datagram_send.c */
int ul_datagram_allow_segments(ul_datagram *datagram);
int ul_datagram_note_send(ul_datagram *datagram, size_t size_bytes, const void *name, uint32_t name_size);
int ul_datagram_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name, uint32_t name_size,
                     int may_queue);
int ul_datagram_hold_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name,
                          uint32_t name_size, size_t high_water_bytes);
void ul_datagram_send_held(ul_datagram *datagram);
int ul_datagram_take_error(ul_datagram *datagram);
void ul_datagrams_send(ul_ring *ring);
size_t ul_datagram_queued(ul_datagram *datagram);
void ul_datagram_notify_low(ul_datagram *datagram, size_t low_water_bytes);

#endif
