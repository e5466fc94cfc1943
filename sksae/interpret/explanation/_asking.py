"""Many questions to a client at once, not too many at a time; the answers in their order."""

import sys
import threading
import warnings
from multiprocessing.pool import ThreadPool

from sksae._params import Int, Verbosity, check_option

_GIVE_UP = 20  # questions in a row, without an answer to any


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
    """Return the answer to each question, or the exception that came instead.

    Parameters
    ----------
    client : object
        Its `complete` turns messages into a string.
    questions : list of list of dict
        Messages with `role` and `content`.
    max_concurrency : int, default=4
        Questions under way at a time.
    verbose : int, default=0
        Whether to show how far it is.
    name : str, default="ask"
        What the progress is of.

    Returns
    -------
    answers : list of (str or Exception)
        In the order of the questions, whatever the order in which they came.
    """
    check_client(client)
    check_option("max_concurrency", max_concurrency, Int(1))
    check_option("verbose", verbose, Verbosity())
    not_asked = NotAskedError("the questions before it all failed")
    answers = [not_asked] * len(questions)
    hopeless = threading.Event()

    def answer_to(item):
        place, question = item
        if hopeless.is_set():
            return place, not_asked
        try:
            return place, client.complete(question)
        except BaseException as error:  # anything: a client is the user's own
            return place, error

    failed_in_a_row = failed = done = 0
    # The pool's threads are daemons: after an interruption nothing new is sent and nobody waits,
    # while what is under way still reaches a cache if the process lives on.
    with ThreadPool(max(1, min(max_concurrency, len(questions)))) as pool:
        for place, answer in pool.imap_unordered(answer_to, enumerate(questions)):
            if answer is not_asked:
                continue
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
            failed_in_a_row = failed_in_a_row + 1 if isinstance(answer, Exception) else 0
            failed += isinstance(answer, Exception)
            answers[place] = answer
            done += 1
            _show(verbose, name, done, len(questions), failed)
            if failed_in_a_row >= _GIVE_UP:
                hopeless.set()
    return answers


def warn_of_failures(answers, *, stacklevel):
    """Warn if some questions got no answer; raise a RuntimeError if none did."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if not errors:
        return
    reason = f"{type(errors[0]).__name__}: {errors[0]}"
    if len(errors) == len(answers):
        raise RuntimeError(f"None of {len(answers)} questions got an answer; {reason}") from errors[
            0
        ]
    warnings.warn(
        f"{len(errors)} of {len(answers)} questions got no answer and count as failed, the first "
        f"with {reason}. With a CachedClient a second call asks these only.",
        stacklevel=stacklevel,
    )


def _show(verbose, name, done, total, failed):
    if not verbose:
        return
    failures = f", {failed:,} failed" if failed else ""
    end = "\n" if done == total else ""
    sys.stdout.write(f"\r[{name}] {done:,}/{total:,} answers{failures}{end}")
    sys.stdout.flush()
