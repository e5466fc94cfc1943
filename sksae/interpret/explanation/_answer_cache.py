"""A client that keeps the answers of another one in a file."""

import hashlib
import json
import threading

from sksae._files import append_whole, as_path
from sksae.interpret.explanation._client_calls import check_client

_BEGIN = '{"key": "' + 64 * "#" + '", "answer": "'  # of each line; "#" is a hexadecimal digit


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
