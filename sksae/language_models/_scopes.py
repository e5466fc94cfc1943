"""Scopes: the forward passes that an open ``with`` block acts on.

A hook fires for every pass of its module, whichever thread or task runs it. A scope is open in the
context that entered it (see `contextvars`): in its thread, in the asyncio tasks that are created
inside the block, and, if asked for, in the threads that are started inside of it. Hooks ask
`Scope.is_here` and leave all other passes alone.
"""

import contextlib
import threading
from contextvars import ContextVar
from weakref import WeakKeyDictionary

_open = ContextVar("open_scopes")  # a frozenset of Scope
_inherited = WeakKeyDictionary()  # thread: the scopes that were open where it was started


class Scope:
    """A part of the program's run, from `enter` to `exit`."""

    def __init__(self):
        self._closed = False

    def enter(self):
        """Open the scope in the current context."""
        _open.set(_open_here() | {self})

    def exit(self):
        """Close the scope in the current context."""
        # Not by the token of `set`: a generator may be closed in another context.
        _open.set(_open_here() - {self})
        self._closed = True

    def is_here(self):
        """Whether the running code belongs to the scope."""
        return not self._closed and self in _open_here()


@contextlib.contextmanager
def scope():
    """Open a `Scope` for a ``with`` block."""
    this = Scope()
    this.enter()
    try:
        yield this
    finally:
        this.exit()


def is_inherited():
    """Whether the running code belongs to open scopes only because they started its thread."""
    return _open.get(None) is None and any(scope.is_here() for scope in _open_here())


def _open_here():
    """Return the scopes that are open in the current context, a frozenset."""
    found = _open.get(None)
    if found is None:
        # A new thread has an empty context, before Python 3.14 always.
        found = _inherited.get(threading.current_thread(), frozenset())
    return found


class _Inheritance:
    """Threads that take over the scopes of the code that starts them, while anybody asks for it.

    `threading.Thread.start` is the only moment at which the starting and the started thread are
    both known. It is replaced from the first `begin` to the last `end`.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_blocks = 0
        self._plain = threading.Thread.start
        self._replaced = False

    def begin(self):
        with self._lock:
            self._n_blocks += 1
            if not self._replaced:
                self._plain, self._replaced = threading.Thread.start, True
                threading.Thread.start = _start

    def end(self):
        with self._lock:
            self._n_blocks -= 1
            # If something else has wrapped `_start` meanwhile, it has to stay.
            if not self._n_blocks and threading.Thread.start is _start:
                threading.Thread.start, self._replaced = self._plain, False

    def start(self, thread):
        _inherited[thread] = _open_here()
        return self._plain(thread)


_inheritance = _Inheritance()


def _start(thread):
    """Start a thread that belongs to the scopes of the code that starts it."""
    return _inheritance.start(thread)


@contextlib.contextmanager
def inherited_by_threads():
    """Let threads that are started inside of the block belong to the scopes open there."""
    _inheritance.begin()
    try:
        yield
    finally:
        _inheritance.end()
