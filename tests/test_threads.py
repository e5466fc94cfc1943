"""sksae/_threads.py: small work on one thread, and the caller's number back."""

import pytest
import torch

from sksae._threads import threads_for


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_work_is_done_on_one_thread_and_large_work_on_all():
    with threads_for(1e7):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with threads_for(1e8):
        assert torch.get_num_threads() == 3


def test_nested_blocks_give_back_what_they_found():
    with threads_for(1):
        with threads_for(1e12):
            assert torch.get_num_threads() == 1
        with threads_for(2):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_threads_are_back_after_an_error(error):
    with pytest.raises(error), threads_for(1):
        raise error
    assert torch.get_num_threads() == 3


def test_one_thread_stays_one():
    torch.set_num_threads(1)
    with threads_for(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1
