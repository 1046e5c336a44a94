# cython: language_level=3, boundscheck=False, wraparound=False
"""`run_in_executor`: a call in a thread of a `ThreadPoolExecutor`, with one object where asyncio has two futures.

asyncio has the executor make a future of `concurrent.futures` and chains its own to it, by three closures and two
callbacks.  A `Call` stands in the executor's queue in the place of its work item, and of that future.  The caller of
`run_in_executor` gets asyncio's future alone, so no code misses the other one.  A cancel goes both ways, and results
and exceptions arrive, as with asyncio.

Other executors, subclasses, and a `ThreadPoolExecutor` that a tool has changed take asyncio's way.  So do debug mode
and all errors.
"""

import asyncio
import concurrent.futures
import logging
import sys

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_SIZE

from .ring.inbox cimport answers_are

from .hooks import convert_executor_exception, thread_pool_is_usual

cdef extern from *:
    """
    /* Whether this thread made the change. */
    static inline int change_state(int *state, int from, int to)
    {
        return __atomic_compare_exchange_n(state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    #define read_state(state) __atomic_load_n(state, __ATOMIC_SEQ_CST)
    """
    bint change_state(int *state, int before, int after) noexcept
    int read_state(int *state) noexcept
    PyObject **PySequence_Fast_ITEMS(object sequence)
    object PyObject_Vectorcall(object callable, PyObject *const *arguments, size_t count, PyObject *names)

LOG = logging.getLogger("concurrent.futures")

cdef enum:
    PENDING, RUNNING, CANCELLED, FAILED, FINISHED


@cython.final
@cython.freelist(256)
cdef class Call:
    """A function that a thread of an executor calls, for a future of a loop.

    A worker of the executor uses `run`; its `shutdown`, and a failed initializer, use `future`.
    """

    cdef object loop, waiter, function, result
    cdef tuple args
    cdef int state

    # The executor's side, in any thread

    @property
    def future(self):
        """Return this: of a work item's future the executor uses `cancel` and `set_exception`."""
        return self

    def run(self):
        """Call the function, unless it was cancelled."""
        if not change_state(&self.state, PENDING, RUNNING):
            return
        # They go with this frame, after the loop has been told, as the executor's work items do.
        function, self.function = self.function, None
        args, self.args = self.args, None
        try:
            result = PyObject_Vectorcall(function, PySequence_Fast_ITEMS(args), PyTuple_GET_SIZE(args), NULL)
        except BaseException as error:
            self.finish(FAILED, error)
        else:
            self.finish(FINISHED, result)

    def cancel(self):
        """Cancel the call, and the loop's future; return whether it had not begun."""
        if not change_state(&self.state, PENDING, CANCELLED):
            return read_state(&self.state) == CANCELLED
        self.tell()
        return True

    def set_exception(self, exception):
        """Have the future raise this exception instead of making the call."""
        if not change_state(&self.state, PENDING, RUNNING):
            raise concurrent.futures.InvalidStateError(f"{self!r} has begun, or is cancelled")
        self.finish(FAILED, exception)

    cdef finish(self, int state, result):
        self.result = result
        change_state(&self.state, RUNNING, state)
        self.tell()

    cdef tell(self):
        loop = self.loop
        if loop._closed:
            return
        try:
            loop.call_soon_threadsafe(self)
        except Exception:
            # Closed meanwhile: `concurrent.futures` logs what its callbacks raise.
            LOG.exception("exception calling callback for %r", self)

    # The loop's side

    def __call__(self, waiter=None):
        """Take the end of the loop's future if that is given, else the end of the call."""
        if waiter is None:
            self.settle()
        elif read_state(&self.state) == PENDING and waiter.cancelled():
            change_state(&self.state, PENDING, CANCELLED)

    cdef settle(self):
        waiter, self.waiter = self.waiter, None
        result, self.result = self.result, None
        if waiter.done():
            if not waiter.cancelled():
                raise AssertionError(f"{waiter!r} was done before its call")
        elif self.state == FINISHED:
            waiter.set_result(result)
        elif self.state == FAILED:
            waiter.set_exception(convert_executor_exception(result))
        else:
            waiter.cancel()

    def __repr__(self):
        state = ("pending", "running", "cancelled", "failed", "finished")[read_state(&self.state)]
        return f"<Call {state} at {<size_t><PyObject *>self:#x}>"


answers_are(Call)

cdef extern from *:
    """
    /* A number that changes with the class and its bases; 0 before the first look-up of an attribute. */
    static unsigned int version_of(PyObject *type)
    {
        return __atomic_load_n(&((PyTypeObject *)type)->tp_version_tag, __ATOMIC_RELAXED);
    }

    #define load_version(version) __atomic_load_n(version, __ATOMIC_RELAXED)
    #define store_version(version, value) __atomic_store_n(version, value, __ATOMIC_RELAXED)
    #define load_object(object) __atomic_load_n(object, __ATOMIC_ACQUIRE)
    #define store_object(object, value) __atomic_store_n(object, value, __ATOMIC_RELEASE)
    """
    PyObject *load_object(PyObject *const *object) noexcept
    void store_object(PyObject **object, PyObject *value) noexcept
    unsigned int version_of(object type) noexcept
    unsigned int load_version(const unsigned int *version) noexcept
    void store_version(unsigned int *version, unsigned int value) noexcept

# The standard library's thread pool, once it is loaded, and the names of its module.  All loops find the same.
cdef PyObject *Pool = NULL
cdef PyObject *names = NULL  # stored before the pool
cdef unsigned int usual_version = 0  # of Pool, while no tool has replaced its methods


cdef bint is_usual(executor) except -1:
    """Return whether the executor is a `ThreadPoolExecutor` as the standard library has it."""
    cdef unsigned int version
    cdef PyObject *pool = load_object(&Pool)
    if pool == NULL:
        module = sys.modules.get("concurrent.futures.thread")
        if module is None:
            return False
        found, found_names = module.ThreadPoolExecutor, vars(module)
        # For ever.  Several threads may do this at once, with the same objects.
        Py_INCREF(found)
        Py_INCREF(found_names)
        store_object(&names, <PyObject *>found_names)
        pool = <PyObject *>found
        store_object(&Pool, pool)
    if type(executor) is not <object>pool:
        return False
    version = version_of(<object>pool)
    if version != load_version(&usual_version) or version == 0:
        if not thread_pool_is_usual():
            return False
        store_version(&usual_version, version_of(<object>pool))
    return "submit" not in executor.__dict__


cdef bint submit(executor, Call call) except -1:
    """Do as the executor's `submit`; return whether it takes calls."""
    cdef dict module_names = <dict>load_object(&names)
    with executor._shutdown_lock, module_names["_global_shutdown_lock"]:
        if executor._broken or executor._shutdown or module_names["_shutdown"]:
            return False
        executor._work_queue.put(call)
        # Otherwise it waits for nothing on a condition, and finds that there is no place for another thread.
        if executor._idle_semaphore._value > 0 or len(executor._threads) < executor._max_workers:
            executor._adjust_thread_count()
    return True


def run_in_executor(self, executor, func, *args):
    """See `asyncio.loop.run_in_executor`."""
    cdef Call call
    pool = self._default_executor if executor is None else executor
    if not (self._debug or self._closed or self._executor_shutdown_called) and is_usual(pool):
        call = Call.__new__(Call)
        call.loop = self
        call.function = func
        call.args = args
        call.waiter = waiter = self.create_future()
        waiter.add_done_callback(call)
        if submit(pool, call):
            return waiter
    return asyncio.BaseEventLoop.run_in_executor(self, executor, func, *args)
