"""Concurrent questions to a client, bounded in number, and warnings of those that failed."""

import sys
import threading
import warnings
from multiprocessing.pool import ThreadPool

from sksae._params import Int, Verbosity, check_option
from sksae._signs import visible

_N_GIVE_UP = 20  # failed questions in a row after which no more are sent


class NotAskedError(RuntimeError):
    """A question was not sent, since those before it all failed."""


def check_client(client):
    """Raise a TypeError unless `client` can be asked."""
    if isinstance(client, type):
        raise TypeError(f"client must be an object, not the class {client.__name__} itself.")
    if not callable(getattr(client, "complete", None)):
        raise TypeError(
            f"client must have a method complete(messages) that returns a string; "
            f"{type(client).__name__} has none. OpenAIClient and LocalClient have one."
        )


def ask(client, questions, *, max_concurrency=4, verbose=0, name="ask"):
    """Answer to each question, or the exception that was raised instead.

    Parameters
    ----------
    client : object
        Its method `complete` maps messages to a string.
    questions : sequence of list of dict
        Messages with `role` and `content`. One that writes them when they are asked for keeps
        those in memory that are under way.
    max_concurrency : int, default=4
        The largest number of questions at the same time.
    verbose : int, default=0
        Whether to show the progress.
    name : str, default="ask"
        The label of the progress.

    Returns
    -------
    answers : list of (str or Exception)
        In the order of the questions.
    """
    check_client(client)
    check_option("max_concurrency", max_concurrency, Int(1))
    check_option("verbose", verbose, Verbosity())
    not_asked = NotAskedError("the questions before it all failed")
    answers = [not_asked] * len(questions)
    hopeless = threading.Event()

    def numbered_answer(i):
        if hopeless.is_set():
            return i, not_asked
        try:
            return i, client.complete(questions[i])
        except BaseException as error:  # of any type: a client is the user's own
            return i, error

    n_in_a_row = n_failed = n_done = 0
    # The pool's threads are daemons: after an interruption no question is sent any more and the
    # process does not wait. If it goes on, answers under way still reach a cache.
    with ThreadPool(max(1, min(max_concurrency, len(questions)))) as pool:
        for i, answer in pool.imap_unordered(numbered_answer, range(len(questions))):
            if answer is not_asked:
                continue
            failed = isinstance(answer, BaseException)
            if failed and not isinstance(answer, Exception):  # KeyboardInterrupt, SystemExit
                raise answer
            n_in_a_row = n_in_a_row + 1 if failed else 0
            n_failed += failed
            answers[i] = answer
            n_done += 1
            _show(verbose, name, n_done, len(questions), n_failed)
            if n_in_a_row >= _N_GIVE_UP:
                hopeless.set()
    return answers


def warn_of_failures(answers, *, stacklevel):
    """Warn if some questions got no answer; raise a RuntimeError if none did."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if not errors:
        return
    # The first question may not have been asked: others can fail while its thread waits.
    first = min(errors, key=lambda error: isinstance(error, NotAskedError))
    reason = f"{type(first).__name__}: {first}"
    if len(errors) == len(answers):
        message = f"None of {len(answers)} questions got an answer; {reason}"
        raise RuntimeError(message) from first
    warnings.warn(
        f"{len(errors)} of {len(answers)} questions got no answer and count as failed, the first "
        f"with {reason}. With a CachedClient a second call asks these only.",
        stacklevel=stacklevel,
    )


def warn_of_unread(scores, answers, parsed, *, stacklevel=4):
    """Warn if most answers cannot be read, or all of one score.

    Parameters
    ----------
    scores : list of (int, str, bool)
        The feature, the method, and whether the score is that of a baseline, per answer.
    answers : list of (object or Exception)
        As `ask` returns them; those that are not strings cannot be read.
    parsed : list of (object or None)
        The value of each answer; None where there is none.
    stacklevel : int, default=4
        That of the warning.
    """
    unread, by_score = [], {}
    for score, answer, value in zip(scores, answers, parsed, strict=True):
        if not isinstance(answer, Exception):
            by_score.setdefault(score, []).append(value is not None)
            unread += [answer] if value is None else []
    lost = [score for score, were_read in by_score.items() if not any(were_read)]
    if 2 * len(unread) > len(answers) or lost:
        first = unread[0]
        shown = repr(visible(first[:80])) if isinstance(first, str) else f"a {type(first).__name__}"
        of_score = f", all of {lost[0][1]} of feature {lost[0][0]}" if lost else ""
        warnings.warn(
            f"{len(unread)} of {len(answers)} answers could not be read and count as failed"
            f"{of_score}; the first of them is {shown}.",
            stacklevel=stacklevel,
        )


def _show(verbose, name, n_done, n_questions, n_failed):
    if not verbose:
        return
    failures = f", {n_failed:,} failed" if n_failed else ""
    end = "\n" if n_done == n_questions else ""
    sys.stdout.write(f"\r[{name}] {n_done:,}/{n_questions:,} answers{failures}{end}")
    sys.stdout.flush()
