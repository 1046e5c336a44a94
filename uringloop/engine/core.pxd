# The declarations of `engine.h`.

from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_outcome, ul_ring


cdef extern from "engine/engine.h" nogil:
    ctypedef struct ul_stream:
        pass
    ctypedef struct ul_datagram:
        pass

    enum:
        UL_STREAM_DATA
        UL_STREAM_EOF
        UL_STREAM_RECEIVE_ERROR
        UL_STREAM_SEND_ERROR
        UL_STREAM_LOW
        UL_STREAM_RELEASED
        UL_STREAM_CLOSED
        UL_STREAM_EMPTY
        UL_STREAM_HANGUP
        UL_STREAM_READABLE
        UL_OPEN_MULTISHOT
        UL_OPEN_PIPE
        UL_OPEN_POLLS
        UL_OPEN_OWN_TCP
        UL_DATAGRAM_DATA
        UL_DATAGRAM_RECEIVE_ERROR
        UL_DATAGRAM_SEND_ERROR
        UL_DATAGRAM_LOW
        UL_DATAGRAM_CLOSED
        UL_DATAGRAM_READABLE
        UL_DATAGRAM_BUFFER_SIZE
        UL_GROUP_DATAGRAM
        UL_NAME_SIZE

    int ul_streams_allow_bulk(ul_ring *ring, uint32_t streams_max)
    ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags)
    int ul_stream_receive(ul_stream *stream)
    void ul_stream_watch(ul_stream *stream, uint32_t events)
    int ul_stream_hold(ul_stream *stream)
    void ul_stream_recycle(ul_stream *stream, const ul_outcome *outcome)
    int ul_stream_take(ul_stream *stream, void *buffer, size_t size_bytes)
    int ul_stream_takes_much(ul_stream *stream)
    int ul_streams_give_turns(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity) noexcept
    int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes)
    int ul_stream_write_pinned(ul_stream *stream, const void *data, size_t size_bytes, void *pin)
    void ul_stream_send_queued(ul_stream *stream)
    int ul_stream_may_be_last(ul_stream *stream)
    int ul_streams_send(ul_ring *ring, int all)
    size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes)
    size_t ul_stream_send_behind(ul_stream *stream, const void *data, size_t size_bytes)
    int ul_stream_idle(ul_stream *stream)
    void *ul_stream_released(ul_stream *stream)
    bint ul_stream_take_back(ul_stream *stream, size_t size_bytes)
    size_t ul_stream_queued(ul_stream *stream)
    int ul_stream_finished(ul_stream *stream)
    int ul_stream_share(ul_stream *stream)
    bint ul_stream_is_alone(ul_stream *stream)
    void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes)
    void ul_stream_notify_empty(ul_stream *stream)
    int ul_stream_write_eof(ul_stream *stream)
    int ul_stream_close(ul_stream *stream)
    int ul_stream_abort(ul_stream *stream)
    void ul_stream_free(ul_stream *stream)

    ul_datagram *ul_datagram_open(ul_ring *ring, int fd, void *owner, int multishot, uint32_t overhead_bytes)
    int ul_datagram_idle(ul_datagram *datagram)
    int ul_datagram_close(ul_datagram *datagram)
    int ul_datagram_abort(ul_datagram *datagram)
    void ul_datagram_free(ul_datagram *datagram)
    int ul_datagram_receive(ul_datagram *datagram)
    int ul_datagram_hold(ul_datagram *datagram)
    void ul_datagram_recycle(ul_datagram *datagram, const ul_outcome *outcome)
    int ul_datagram_take(ul_datagram *datagram, void *buffer)
    int ul_datagram_receive_now(ul_datagram *datagram, void *buffer)
    uint32_t ul_datagram_payload_offset(const ul_datagram *datagram)
    uint32_t ul_datagram_segment_size(const ul_datagram *datagram, const char *data)
    int ul_datagram_announce(ul_datagram *datagram)
    bint ul_datagram_share(ul_datagram *datagram)
    bint ul_datagram_end_coalescing(ul_datagram *datagram)
    void ul_datagram_drop_arriving(ul_datagram *datagram, int on)
    bint ul_datagram_allow_segments(ul_datagram *datagram)
    int ul_datagram_note_send(ul_datagram *datagram, size_t size_bytes, const void *name, uint32_t name_size)
    int ul_datagram_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name,
                         uint32_t name_size, int may_queue)
    int ul_datagram_hold_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name,
                              uint32_t name_size, size_t high_water_bytes)
    void ul_datagram_send_held(ul_datagram *datagram)
    int ul_datagram_take_error(ul_datagram *datagram)
    void ul_datagrams_send(ul_ring *ring)
    size_t ul_datagram_queued(ul_datagram *datagram)
    void ul_datagram_notify_low(ul_datagram *datagram, size_t low_water_bytes)
