# The declarations of `core.h` and `abi.h`.

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t, uintptr_t


cdef extern from "errno.h" nogil:
    int ECANCELED
    int ENOMEM
    int EOWNERDEAD


cdef extern from "ring/core/core.h" nogil:
    ctypedef struct ul_ring:
        pass
    struct io_uring_recvmsg_out:
        uint32_t namelen
        uint32_t controllen
        uint32_t payloadlen
        uint32_t flags
    struct io_uring_buf:
        pass
    struct io_uring_sqe:
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t off
        uint64_t addr
        uint32_t len
        uint32_t op_flags
        uint64_t user_data
        uint16_t buf_index
        uint16_t personality
        int32_t splice_fd_in
        uint64_t addr3
    ctypedef struct ul_outcome:
        uint64_t token
        int32_t res
        uint32_t flags
        void *owner
        uint32_t what
        uint32_t buffer_id
        const char *data

    ctypedef struct ul_statistics:
        pass

    uint32_t IOSQE_CQE_SKIP_SUCCESS
    uint32_t IORING_SETUP_DEFER_TASKRUN
    uint32_t IORING_SETUP_IOPOLL
    uint32_t IOSQE_FIXED_FILE
    int IORING_OP_NOP, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED
    int IORING_OP_READ, IORING_OP_WRITE, IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_EPOLL_WAIT, IOSQE_BUFFER_SELECT
    uint32_t IORING_CQE_F_MORE
    uint32_t IORING_CQE_F_BUFFER
    uint32_t IORING_CQE_F_SOCK_NONEMPTY
    uint32_t IORING_CQE_BUFFER_SHIFT
    enum:
        UL_KIND_BITS
        UL_KIND_FOREIGN
        UL_GROUP_BYTES
        UL_BACKEND_IO_URING
        UL_BACKEND_EPOLL

    ctypedef struct ul_wakeup:
        pass
    void ul_ring_watch_wakeup(ul_ring *ring, ul_wakeup *wakeup, int multishot)
    io_uring_sqe *ul_next_sqe(ul_ring *ring, int *error)
    uint32_t ul_staged(ul_ring *ring)
    int ul_disown(ul_ring *ring, uint64_t token)
    int ul_reserve(ul_ring *ring, uint32_t count)
    int ul_stage_cancel(ul_ring *ring, uint64_t token)
    int ul_stage_cancel_all(ul_ring *ring)
    uint32_t ul_cancels(ul_ring *ring)
    uint32_t ul_cancel_targets(ul_ring *ring)
    uint32_t ul_ring_entries(ul_ring *ring, int completion_queue)
    int ul_buffers_need(ul_ring *ring)
    int ul_ring_wants_room(ul_ring *ring)
    int ul_ring_make_room(ul_ring *ring)
    void ul_cancel_drop(ul_ring *ring, uint64_t token)
    uint64_t ul_operation_token(ul_ring *ring)
    uint64_t ul_in_flight(ul_ring *ring)
    uint64_t ul_completed(ul_ring *ring)
    int64_t ul_now_ns()
    void ul_ring_statistics(ul_ring *ring, ul_statistics *out)
    uint32_t ul_ring_backend(ul_ring *ring)
    uint32_t ul_ring_backend(ul_ring *ring)
    int ul_ring_fd(ul_ring *ring)
    int ul_found_readers(const ul_ring *ring)
    int ul_has_work(ul_ring *ring)
    int ul_is_awake(ul_ring *ring)
    bint ul_begin_idly(ul_ring *ring, uint32_t unhurried)
    int ul_prepare(ul_ring *ring, int64_t *timeout_ns)
    int ul_spin(ul_ring *ring, int64_t for_ns)
    int ul_sleep(ul_ring *ring, int64_t timeout_ns, int64_t spin_ns)
    int ul_enter(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns)
    int ul_wait(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns, uint32_t enter_flags,
                const uint64_t *signal_mask)
    void ul_let_overflow(ul_ring *ring)
    int ul_ring_refuses(ul_ring *ring)
    int ul_ring_dropped(ul_ring *ring)
    uint32_t ul_ring_setup_flags(ul_ring *ring)
    int ul_unstage(ul_ring *ring, uint64_t *token)
    uint32_t ul_place(ul_ring *ring)
    io_uring_sqe *ul_sqe_at(ul_ring *ring, uint32_t place)
    void ul_retire(ul_ring *ring)
    int ul_reap_ready(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity)
    int ul_reap(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity)
    void ul_descriptor_arm(ul_ring *ring)
    void ul_descriptor_disarm(ul_ring *ring)
    void ul_descriptor_closes(ul_ring *ring, int fd, int alone)

    int ul_buffers_open(ul_ring *ring, uint32_t group_id, uint32_t count, uint32_t size_bytes, uint32_t count_max,
                        int sparse)
    int ul_buffers_found_empty(ul_ring *ring, uint32_t group_id)
    void ul_buffer_provide(io_uring_buf *entries, uint32_t entry_count, uint16_t tail, void *memory,
                           uint32_t size_bytes, uint16_t buffer_id)
    char *ul_buffer_lend(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
    void ul_buffer_recycle(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower)
