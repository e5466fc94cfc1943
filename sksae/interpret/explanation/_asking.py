"""Many questions to a client at once, not too many at a time; the answers in their order."""

import sys
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed

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
    answers = [NotAskedError("the questions before it all failed")] * len(questions)
    pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="sksae-ask")
    try:
        places = {pool.submit(client.complete, q): i for i, q in enumerate(questions)}
        failed_in_a_row = failed = done = 0
        for future in as_completed(places):
            try:
                answer = future.result()
                failed_in_a_row = 0
            except CancelledError:
                continue
            except Exception as error:  # anything: a client is the user's own
                answer = error
                failed_in_a_row += 1
                failed += 1
            answers[places[future]] = answer
            done += 1
            _show(verbose, name, done, len(questions), failed)
            if failed_in_a_row >= _GIVE_UP:
                for other in places:
                    other.cancel()
    finally:
        # After an interruption nothing new is sent; what is under way still reaches a cache.
        pool.shutdown(wait=False, cancel_futures=True)
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
