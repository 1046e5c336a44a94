"""Binds the loop in multiprocessing's fork server: one of CPython's tests makes a loop in a pool's worker.

The fork server is a fresh interpreter, where nothing that the runner patched exists. It imports the modules
named by `multiprocessing.set_forkserver_preload` before it forks, and importing this one is the whole effect.
"""

from tests.compat.loops import LoopChoice, bind

bind(LoopChoice.from_environment())
