"""Questions to a client: many at once, warnings of those that failed, answers kept in a file."""

import hashlib
import json
import sys
import threading
import warnings
from multiprocessing.pool import ThreadPool

from sksae._files import append_whole, as_path
from sksae._params import Int, Verbosity, check_option
from sksae._signs import visible

_N_GIVE_UP = 20  # failed questions in a row after which no more are sent
_BEGIN = '{"key": "' + 64 * "#" + '", "answer": "'  # of each line; "#" is a hexadecimal digit


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
    # The index keeps the order of the questions, which are answered in any.
    # process does not wait. If it goes on, answers under way still reach a cache.
    # Threads, since a client waits for a server.
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
    # More than half of all, or all answers of one score, that could not be read.
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


class CachedClient:
    """A client that keeps its answers in a file and asks no question twice.

    An answer is found again by the client's identity (model, address, temperature, ...) and the
    messages. The file has one line per answer and is only ever added to: an answer is there as soon
    as it has come, whatever happens next; a line that was cut off is ignored. If the disk is full,
    `complete` raises an OSError; the object keeps the answer, returns it when asked again, and
    writes it as soon as there is space. Threads share one object; several processes may use one
    file of a local disk at once. Errors are not kept.

    Parameters
    ----------
    client : object
        An object with ``complete(messages)`` that returns a string.
    path : str or Path
        The file; made with its folder where it does not exist.
    identity : str or dict, default=None
        Whatever distinguishes the client from others that use the same file. None takes
        ``client.identity``.

    Attributes
    ----------
    n_asked : int
        Questions that were passed on.
    n_found : int
        Questions that were answered from the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If `client` cannot be asked, or `identity` cannot be written as JSON.
    ValueError
        If there is no identity, or the path is that of a file with other content.

    See Also
    --------
    OpenAIClient : A client for a server.
    LocalClient : A client for a model in this process.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sksae.interpret import CachedClient
    >>> class Parrot:
    ...     def complete(self, messages):
    ...         return messages[-1]["content"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     client = CachedClient(Parrot(), Path(folder) / "answers.jsonl", identity="parrot")
    ...     said = [client.complete([{"role": "user", "content": "hello"}]) for _ in range(3)]
    >>> said, client.n_asked, client.n_found
    (['hello', 'hello', 'hello'], 1, 2)
    """

    def __init__(self, client, path, *, identity=None):
        identity = getattr(client, "identity", None) if identity is None else identity
        if not identity:
            raise ValueError(
                f"{type(client).__name__} does not say which model it asks; give an identity, or "
                f"answers of different models could be taken for each other."
            )
        check_client(client)
        json.dumps(identity)  # raises a TypeError
        self.client, self.path, self.identity = client, as_path(path), identity
        self.name = getattr(client, "name", type(client).__name__)
        self.n_asked = self.n_found = 0
        self._lock = threading.Lock()  # of everything below
        self._question_locks = {}  # by key: the same question waits for the answer to the first
        self._answers, self._read_to = {}, 0
        self._unwritten = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check_file()
        with self.path.open("ab"):  # fails now rather than after the first answer was paid for
            pass

    def __repr__(self):
        return f"CachedClient({self.client!r}, {str(self.path)!r})"

    def complete(self, messages):
        """Return the answer to a question, from the file if it is there.

        Parameters
        ----------
        messages : list of dict
            Each with `role` and `content`.

        Returns
        -------
        answer : str
            The client's answer, now or earlier.
        """
        question = json.dumps([self.identity, messages], sort_keys=True)
        key = hashlib.sha256(question.encode("ascii")).hexdigest()
        with self._lock:
            question_lock = self._question_locks.setdefault(key, threading.Lock())
        with question_lock:
            with self._lock:
                if key not in self._answers:
                    self._read()
                if key in self._answers:
                    self.n_found += 1
                    self._write()
                    return self._answers[key]
                self.n_asked += 1
            answer = self.client.complete(messages)
            if isinstance(answer, str):
                with self._lock:
                    self._answers[key] = answer
                    self._unwritten.append(json.dumps({"key": key, "answer": answer}))
                    self._write()
            return answer

    def _check_file(self):
        """Raise a ValueError if there is something at the path that no cache has written."""
        if not self.path.exists():
            return
        if self.path.is_file():
            with self.path.open("rb") as stream:
                begin = stream.read(2 * len(_BEGIN)).decode("latin-1")
            first = begin.lstrip("\n").partition("\n")[0]
            # It may have been cut off anywhere, when a process was killed.
            if all(
                character == expected or (expected == "#" and character in "0123456789abcdef")
                for character, expected in zip(first, _BEGIN, strict=False)
            ):
                return
        raise ValueError(
            f"{self.path} is not a file of answers, and nothing is added to it; give another path."
        )

    def _read(self):
        """Read the whole lines that were added since, by any process."""
        with self.path.open("rb") as stream:
            stream.seek(self._read_to)
            added = stream.read()
        whole_lines = added[: added.rfind(b"\n") + 1]
        self._read_to += len(whole_lines)
        for line in whole_lines.splitlines():
            try:
                entry = json.loads(line)
                key, answer = entry["key"], entry["answer"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # cut off when a process was killed
            if isinstance(key, str) and isinstance(answer, str):
                self._answers.setdefault(key, answer)

    def _write(self):
        """Add the answers that are not in the file yet.

        After an error, of a full disk say, they are kept, and are written with the next call.
        """
        if not self._unwritten:
            return
        # A line break first: the line before may have been cut off.
        lines = "".join(f"\n{line}\n" for line in self._unwritten).encode("ascii")
        try:
            append_whole(self.path, lines)
        except OSError as error:
            reason = f"{error.strerror}; this object keeps the answer and writes it when next asked"
            raise OSError(error.errno, reason, str(self.path)) from error
        self._unwritten.clear()
