"""A client for servers that speak the OpenAI protocol, with retries of its own."""

import json
import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sksae._params import Float, Instance, Int, check_option

_LONGEST_WAIT = 60.0  # seconds
_PASSING = (408, 409, 425, 429)  # and 500 to 599: a later try may go well
_RULES = {
    "model": Instance(str, description="a str"),
    "timeout": Float(0, open_="low"),
    "max_retries": Int(0),
    "wait": Float(0),
    "temperature": Float(0, none=True),
    "seed": Int(none=True),
    "options": Instance(dict, type(None), description="a dict or None"),
}


class _UnusableError(ValueError):
    """The server said all was well, and sent something that is no answer."""


class OpenAIClient:
    """A client for a server that speaks the OpenAI chat protocol.

    That is OpenAI's own, and those of vLLM, llama.cpp, Ollama and others. Where the server is
    overloaded, slow, broken for a moment, or answers with something that is no answer, the question
    is sent again after a while, which doubles each time; a ``Retry-After`` of the server is obeyed.

    Parameters
    ----------
    model : str
        What the server calls the model.
    base_url : str, default=None
        The address, such as ``"http://localhost:8000/v1"``. None is OpenAI's, or that of the
        environment variable ``OPENAI_BASE_URL``.
    api_key : str, default=None
        None takes the environment variable ``OPENAI_API_KEY``; with a `base_url`, no key is sent
        unless it is given here.
    timeout : float, default=120.0
        Seconds until a try counts as failed.
    max_retries : int, default=5
        How many times a question is sent again.
    wait : float, default=1.0
        Seconds before the second try, at most; twice that before the third, and so on up to a
        minute.
    temperature : float, default=0.0
        Of the sampling. None leaves it to the server, as some models demand.
    seed : int, default=0
        Of the sampling, for servers that can repeat themselves. None sends none.
    options : dict, default=None
        Further fields of the request, such as ``{"max_completion_tokens": 500}``.

    Attributes
    ----------
    name : str
        The model.
    identity : dict
        All that an answer depends on; no key.
    usage : dict of str to int
        So far: `calls` that were answered, `retries`, `tokens_in` and `tokens_out` as the server
        counts them.

    See Also
    --------
    CachedClient : Keeps the answers on disk.
    LocalClient : A model in this process.

    Examples
    --------
    >>> from sksae.interpret import OpenAIClient
    >>> client = OpenAIClient("my-model", base_url="http://localhost:8000/v1")
    >>> client
    OpenAIClient('my-model', base_url='http://localhost:8000/v1')
    """

    def __init__(
        self,
        model,
        *,
        base_url=None,
        api_key=None,
        timeout=120.0,
        max_retries=5,
        wait=1.0,
        temperature=0.0,
        seed=0,
        options=None,
    ):
        given = {"model": model, "timeout": timeout, "max_retries": max_retries, "wait": wait}
        given |= {"temperature": temperature, "seed": seed, "options": options}
        for name, rule in _RULES.items():
            check_option(name, given[name], rule)
        try:
            import openai
        except ImportError as error:
            raise ImportError(
                "OpenAIClient needs the openai package: pip install 'sksae[explain]'."
            ) from error
        sampling = {"temperature": temperature, "seed": seed}
        self.name = model
        self._request = {
            "model": model,
            **{name: value for name, value in sampling.items() if value is not None},
            **(options or {}),
        }
        self._base_url, self._max_retries, self._wait = base_url, max_retries, wait
        if api_key is None and base_url is not None:
            api_key = "none"  # not the environment's: it may be meant for another server
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0
        )
        self.identity = {"base_url": str(self._client.base_url), **self._request}
        self.usage = {"calls": 0, "retries": 0, "tokens_in": 0, "tokens_out": 0}
        self._lock = threading.Lock()
        self._random = random.Random()  # spreads retries in time; no answer depends on it

    def __repr__(self):
        return f"OpenAIClient({self.name!r}, base_url={self._base_url!r})"

    def complete(self, messages):
        """Return the answer of the model.

        Parameters
        ----------
        messages : list of dict
            Each with `role` and `content`.

        Returns
        -------
        answer : str
            What the model said.

        Raises
        ------
        RuntimeError
            If the server refuses the question, or there is no whole answer after all tries.
        """
        for attempt in range(self._max_retries + 1):
            try:
                return self._ask(messages)
            except (self._openai.OpenAIError, _UnusableError) as error:
                status = getattr(error, "status_code", None)
                lasting = status is not None and status < 500 and status not in _PASSING
                if lasting or attempt == self._max_retries:
                    tries = f"{attempt + 1} {'try' if attempt == 0 else 'tries'}"
                    raise RuntimeError(
                        f"No answer from {self.name} after {tries}: {error}"
                    ) from error
                pause = self._pause(attempt, error)
            self._count(retries=1)
            time.sleep(pause)
        raise RuntimeError(f"No answer from {self.name}.")

    def _ask(self, messages):
        create = self._client.chat.completions.with_raw_response.create
        content, finish, usage = _read(create(messages=messages, **self._request).content)
        counts = {
            "tokens_in": usage.get("prompt_tokens"),
            "tokens_out": usage.get("completion_tokens"),
        }
        self._count(calls=1, **{k: v for k, v in counts.items() if isinstance(v, int)})
        if finish == "length":
            raise RuntimeError(
                f"{self.name} was cut off before the end of its answer; raise its limit of tokens "
                f"by options."
            )
        return content

    def _pause(self, attempt, error):
        """Return how many seconds to wait: what the server asks for, or twice the last time."""
        response = getattr(error, "response", None)
        asked = _seconds(response.headers.get("retry-after")) if response is not None else None
        if asked is not None:
            return min(asked, _LONGEST_WAIT)
        longest = min(self._wait * 2.0**attempt, _LONGEST_WAIT)
        return longest * self._random.uniform(0.5, 1.0)

    def _count(self, **counts):
        with self._lock:
            for name, count in counts.items():
                self.usage[name] += count


def _read(body):
    """Return ``(content, reason to finish, usage)`` of the body of a response."""
    try:
        said = json.loads(body)
        choice = said["choices"][0]
        content, finish = choice["message"]["content"], choice.get("finish_reason")
        usage = said.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _UnusableError("the server's response is not that of a chat") from error
    if finish == "length" and content is None:
        content = ""
    elif not isinstance(content, str) or (finish != "length" and not content.strip()):
        raise _UnusableError("the server's response holds no text")
    return content, finish, usage if isinstance(usage, dict) else {}


def _seconds(header):
    """Return the seconds of a Retry-After header, a number or a date; None if it is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds == seconds else None
