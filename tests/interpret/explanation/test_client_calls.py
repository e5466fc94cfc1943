import threading
import time

import pytest

from sksae.interpret.explanation._client_calls import (
    NotAskedError,
    ask,
    check_client,
    warn_of_failures,
)
from tests.cases import each_case


class Counting:
    """Answers with the question, later for the first ones, and counts who is there at once."""

    def __init__(self, fails=()):
        self.now = self.most = self.asked = 0
        self.lock, self.fails = threading.Lock(), fails

    def complete(self, messages):
        with self.lock:
            self.now += 1
            self.asked += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002 * (messages < 3))
        with self.lock:
            self.now -= 1
        if messages in self.fails:
            raise KeyError(messages)
        return str(messages)


@each_case("bound", [1, 2, 7])
def test_answers_come_in_order_and_never_more_than_the_bound_at_once(bound):
    client = Counting()
    assert ask(client, list(range(30)), max_concurrency=bound) == [str(i) for i in range(30)]
    assert client.most <= bound


def test_a_failure_is_an_answer_and_the_others_are_not_lost():
    answers = ask(Counting(fails={1, 4}), list(range(6)), max_concurrency=3)
    assert [type(a).__name__ for a in answers] == [
        "str",
        "KeyError",
        "str",
        "str",
        "KeyError",
        "str",
    ]


def test_after_many_failures_in_a_row_nothing_more_is_sent():
    client = Counting(fails=range(1000))
    answers = ask(client, list(range(1000)), max_concurrency=2)
    assert 20 <= client.asked < 1000
    assert {type(a).__name__ for a in answers} == {"KeyError", "NotAskedError"}
    with pytest.raises(RuntimeError, match=r"None of 1000 questions got an answer; KeyError: 0"):
        warn_of_failures(answers, stacklevel=1)


def test_an_interruption_stops_what_was_not_sent():
    class Interrupted(Counting):
        def complete(self, messages):
            if messages == 2:
                raise KeyboardInterrupt
            return super().complete(messages)

    client = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        ask(client, list(range(500)), max_concurrency=1)
    assert client.asked < 500


def test_progress_is_shown_on_one_line(capsys):
    ask(Counting(fails={2}), list(range(3)), max_concurrency=1, verbose=1, name="score")
    shown = capsys.readouterr().out
    assert shown.startswith("\r[score] 1/3 answers\r")
    assert shown.endswith("[score] 3/3 answers, 1 failed\n")
    assert shown.count("\n") == 1
    ask(Counting(), [0])
    assert capsys.readouterr().out == ""


def test_some_failures_are_a_warning():
    with pytest.warns(UserWarning, match="1 of 2 questions got no answer and count as failed"):
        warn_of_failures(["a", ValueError("b")], stacklevel=1)
    # The first may wait while others fail.
    with pytest.raises(RuntimeError, match="None of 2 questions got an answer; KeyError: 'gone'"):
        warn_of_failures([NotAskedError("late"), KeyError("gone")], stacklevel=1)
    warn_of_failures(["a"], stacklevel=1)


def test_a_client_can_be_asked():
    with pytest.raises(TypeError, match=r"method complete\(messages\).*str has none"):
        check_client("gpt")
    with pytest.raises(ValueError, match="max_concurrency"):
        ask(Counting(), [1], max_concurrency=0)
    with pytest.raises(TypeError, match="not the class Counting itself"):
        check_client(Counting)
