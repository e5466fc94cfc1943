"""Answers kept on disk, so that what was asked once is not asked again."""

import hashlib
import json
import threading
from pathlib import Path


class CachedClient:
    """A client that keeps its answers in a file and asks nothing twice.

    An answer is found again by the client's identity (model, address, temperature, ...) and the
    messages. The file has one line an answer and is only ever added to: an answer is there as soon
    as it has come, whatever happens next; a last line that was cut off is ignored. Threads share
    one object; several processes may use the same file at once. Errors are not kept.

    Parameters
    ----------
    client : object
        Any client, with ``complete(messages)`` that returns a string.
    path : str or Path
        The file; made with its folder where it does not exist.
    identity : str, default=None
        What sets the client apart from others that use the same file. None takes
        ``client.identity``.

    Attributes
    ----------
    n_asked : int
        Questions that were passed on.
    n_found : int
        Questions that were answered from the file.

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
        self.client, self.path, self.identity = client, Path(path), identity
        self.name = getattr(client, "name", type(client).__name__)
        self.n_asked = self.n_found = 0
        self._lock = threading.Lock()
        self._answers, self._read_to = {}, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
            What the client said, now or before.
        """
        question = json.dumps([self.identity, messages], sort_keys=True)
        key = hashlib.sha256(question.encode("ascii")).hexdigest()
        with self._lock:
            if key not in self._answers:
                self._read()
            if key in self._answers:
                self.n_found += 1
                return self._answers[key]
            self.n_asked += 1
        answer = self.client.complete(messages)
        if isinstance(answer, str):
            with self._lock:
                self._answers[key] = answer
                self._append({"key": key, "answer": answer})
        return answer

    def _read(self):
        """Take in whole lines that were added since, by whomever."""
        with self.path.open("rb") as stream:
            stream.seek(self._read_to)
            added = stream.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                key, answer = entry["key"], entry["answer"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # cut off when a process was killed
            if isinstance(key, str) and isinstance(answer, str):
                self._answers.setdefault(key, answer)

    def _append(self, entry):
        # A line break first: the line before may have been cut off. One call to write, which a
        # local file system does not mix with those of other processes.
        line = f"\n{json.dumps(entry)}\n".encode("ascii")
        with self.path.open("ab", buffering=0) as stream:
            stream.write(line)
