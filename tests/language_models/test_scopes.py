"""Which code belongs to a scope: contexts, tasks and threads, known in advance."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sksae.language_models._scopes import Scope, inherited_by_threads, is_inherited, scope


def in_thread(function):
    """What a new thread gets from a function."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_a_scope_is_open_in_its_block_only():
    with scope() as outer:
        with scope() as inner:
            assert outer.is_here()
            assert inner.is_here()
        assert outer.is_here()
        assert not inner.is_here()
    assert not outer.is_here()
    with pytest.raises(KeyError), scope() as failed:
        raise KeyError
    assert not failed.is_here()


def test_threads_belong_where_it_is_asked_for():
    with ThreadPoolExecutor(1) as before:
        before.submit(int).result()
        with scope() as one:
            assert not in_thread(one.is_here)
            with inherited_by_threads():
                assert in_thread(one.is_here)
                assert in_thread(lambda: in_thread(one.is_here))
                with ThreadPoolExecutor(1) as inside:
                    assert inside.submit(one.is_here).result()
                assert not before.submit(one.is_here).result()
                run = contextvars.copy_context().run
                assert before.submit(run, one.is_here).result()
            assert not in_thread(one.is_here)


def test_a_thread_has_scopes_of_its_own_beside_those_of_its_parent():
    def own():
        with scope() as mine:
            return mine, mine.is_here() and parent.is_here()

    with scope() as parent, inherited_by_threads():
        mine, both = in_thread(own)
        assert both
        assert parent.is_here()
        assert not mine.is_here()


def test_the_start_of_threads_is_as_it_was():
    plain = threading.Thread.start
    with inherited_by_threads(), inherited_by_threads():
        assert threading.Thread.start is not plain
    assert threading.Thread.start is plain


def test_what_else_has_wrapped_the_start_of_threads_stays(monkeypatch):
    started = []
    with inherited_by_threads():
        ours = threading.Thread.start

        def wrapper(thread):
            started.append(thread)
            return ours(thread)

        monkeypatch.setattr(threading.Thread, "start", wrapper)
    assert threading.Thread.start is wrapper
    with scope() as one, inherited_by_threads():
        assert in_thread(one.is_here)
    assert len(started) == 1
    monkeypatch.undo()
    with inherited_by_threads():
        pass
    with scope() as one:
        assert not in_thread(lambda: threading.Thread.start is ours and one.is_here())


def test_tasks_belong_to_the_block_they_are_created_in():
    async def ask(one):
        await asyncio.sleep(0)
        return one.is_here()

    async def open_one(others):
        with scope() as one:
            others.append(one)
            await asyncio.sleep(0.01)
            child = asyncio.create_task(ask(one))
            in_thread_of_pool = await asyncio.to_thread(one.is_here)
            here = [other.is_here() for other in others]
            return here, await child, in_thread_of_pool

    async def main():
        others = []
        return await asyncio.gather(open_one(others), open_one(others))

    first, second = asyncio.run(main())
    assert first == ([True, False], True, True)
    assert second == ([False, True], True, True)


def test_a_scope_may_be_closed_in_another_context():
    one = Scope()
    one.enter()
    contextvars.copy_context().run(one.exit)
    assert not one.is_here()
    one.exit()


def test_what_is_inherited_is_told_from_what_was_entered():
    def own():
        with scope():
            return is_inherited()

    left = threading.Event()

    def later():
        left.wait(20)
        return is_inherited()

    assert not is_inherited()
    with scope(), inherited_by_threads():
        assert not is_inherited()
        assert in_thread(is_inherited)
        assert not in_thread(own)
        with ThreadPoolExecutor(1) as inside:
            assert inside.submit(is_inherited).result()
            assert not inside.submit(contextvars.copy_context().run, is_inherited).result()
        pool = ThreadPoolExecutor(1)
        after = pool.submit(later)
    left.set()
    assert not after.result()  # the block is over
    pool.shutdown()
