"""A client for servers that speak the OpenAI protocol, by OpenAI's own package."""

import asyncio
import base64
import json
import random
import re
import threading
from concurrent.futures import Future
from urllib.parse import unquote, urlsplit

from sksae._params import Float, Instance, Int, check_option
from sksae._signs import visible
from sksae.interpret.explanation._explanation_prompts import without_system

_LONGEST_WAIT = 60.0  # seconds
_LARGEST_BODY = 2**24  # bytes of a response
_LONGEST_REASON = 500  # characters of an error message
_NO_KEY = "none"  # sent instead of a key, since the package demands one
# The only headers that are sent to a server other than OpenAI's: neither the organization nor the
# project nor further headers that environment variables set for OpenAI.
_HEADERS = ("accept", "accept-encoding", "authorization", "connection", "content-length")
_HEADERS += ("content-type", "host", "user-agent")
# Parts of a question that are left out when a refusal (status 400 or 422) matches the pattern.
_REFUSED = {"temperature": "temperature", "seed": "seed", "system": r"system|\broles?\b"}
_AUTO = {"temperature": 0.0, "seed": 0}


class _OrAuto:
    """Rule that allows "auto" as well as another rule does."""

    def __init__(self, rule):
        self.rule = rule

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return (isinstance(value, str) and value == "auto") or self.rule.accepts(value)

    def __str__(self):
        return f"'auto', {self.rule}"


_RULES = {
    "model": Instance(str, description="a str"),
    "base_url": Instance(str, type(None), description="a str or None"),
    "timeout": Float(0, open_="low"),
    "max_retries": Int(0),
    "wait": Float(0),
    "temperature": _OrAuto(Float(0, none=True)),
    "seed": _OrAuto(Int(none=True)),
    "options": Instance(dict, type(None), description="a dict or None"),
}


class _UnusableError(ValueError):
    """A response of status 200 that holds no answer."""


class OpenAIClient:
    """A client for a server that speaks the OpenAI chat protocol.

    OpenAI's own server does, and so do vLLM, llama.cpp, Ollama and others. Where the server is
    overloaded, slow, cannot be reached, or sends something that is no answer, the question is sent
    again after a pause, by the rules of the ``openai`` package. A refusal by the model or a content
    filter, and an answer that was cut off, are errors at once. Redirections are not followed.

    Parameters
    ----------
    model : str
        The server's name for the model.
    base_url : str, default=None
        The address, such as ``"http://localhost:8000/v1"``. None is OpenAI's, or that of the
        environment variable ``OPENAI_BASE_URL``. To an address given here, nothing is sent that
        environment variables set for OpenAI.
    api_key : str, default=None
        None takes the environment variable ``OPENAI_API_KEY``; with a `base_url`, no key is sent
        unless it is given here.
    timeout : float, default=120.0
        Seconds until one try counts as failed, from the connection to the last byte.
    max_retries : int, default=5
        The largest number of times that a question is sent again.
    wait : float, default=1.0
        Seconds before the second try, at most; twice that before the third, and so on up to a
        minute. A server's ``Retry-After`` of up to two minutes is obeyed instead; after a longer
        one, the question counts as failed.
    temperature : float or None, default="auto"
        The temperature of sampling. None sends none. "auto" sends 0, and none to a server that
        refuses it, as those of reasoning models do.
    seed : int or None, default="auto"
        The seed of sampling, for servers that can repeat themselves. None sends none. "auto" sends
        0, and none to a server that refuses it.
    options : dict, default=None
        Further fields of the request, such as ``{"max_completion_tokens": 500}``.

    Attributes
    ----------
    name : str
        The model.
    identity : dict
        All that an answer depends on, without keys and passwords.
    usage : dict of str to int
        So far: `calls` that were answered, `retries`, `tokens_in` and `tokens_out` as the server
        counts them.

    Raises
    ------
    ImportError
        If the ``openai`` package is missing.
    TypeError, ValueError
        If an option is of a wrong type or out of range.

    See Also
    --------
    CachedClient : Keeps the answers on disk.
    LocalClient : A model in this process.

    Notes
    -----
    Where a server refuses system messages, their text is sent at the head of the user's message.

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
        temperature="auto",
        seed="auto",
        options=None,
    ):
        sampling = {"temperature": temperature, "seed": seed}
        arguments = {"model": model, "base_url": base_url, "timeout": timeout, "wait": wait}
        arguments |= {"max_retries": max_retries, "options": options, **sampling}
        for name, value in arguments.items():
            check_option(name, value, _RULES[name])
        options = _checked_options(options or {})
        self.name = model
        self._timeout, self._max_retries, self._wait = timeout, max_retries, wait
        self._connect(base_url, api_key)
        # Fields that are left out when the server refuses them; those in `_fields` never are.
        self._optional = {name: _AUTO[name] for name, value in sampling.items() if value == "auto"}
        self._optional = {k: v for k, v in self._optional.items() if k not in options}
        fixed = {k: v for k, v in sampling.items() if v is not None and v != "auto"}
        self._fields = {**fixed, **options}
        self.identity = {
            "base_url": self._address,
            "model": model,
            **self._optional,
            **self._fields,
        }
        self.usage = {"calls": 0, "retries": 0, "tokens_in": 0, "tokens_out": 0}
        self._left_out = frozenset()  # names in `_REFUSED` of the parts that this server refused
        self._lock = threading.Lock()

    def _connect(self, base_url, api_key):
        """Find address and key by the package's rules, and check both."""
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise ImportError(
                "OpenAIClient needs the openai package: pip install 'sksae[explain]'."
            ) from error
        if not isinstance(api_key, (str, type(None))):
            raise TypeError(f"api_key must be a str or None, not a {type(api_key).__name__}.")
        self._elsewhere = base_url is not None
        if api_key is None and self._elsewhere:
            api_key = _NO_KEY  # not the environment's: it may be meant for another server
        self._certificates = httpx2.create_ssl_context()  # reading them takes long; once is enough
        http_client = httpx2.AsyncClient(verify=self._certificates)
        self._shown_url = _without_password(_checked_url(base_url)) if self._elsewhere else None
        sdk = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, http_client=http_client)
        self._base_url, self._api_key = str(sdk.base_url), sdk.api_key or ""
        self._address = _without_password(_checked_url(self._base_url))
        if not re.fullmatch(r"[!-~]+", self._api_key):
            raise ValueError(
                "api_key must consist of printable ASCII characters without spaces or line breaks."
            )
        self._secrets = _secrets(self._base_url, self._api_key)

    def __repr__(self):
        return f"OpenAIClient({self.name!r}, base_url={self._shown_url!r})"

    def complete(self, messages):
        """Return the answer of the model.

        Parameters
        ----------
        messages : list of dict
            Each with `role` and `content`.

        Returns
        -------
        answer : str
            The text that the model wrote.

        Raises
        ------
        RuntimeError
            If the server refuses the question, or there is no whole answer after all tries.
        """
        return _finished(self._ask(messages))

    async def _ask(self, messages):
        import openai

        http_client = _http_client(
            self._timeout, self._wait, self._certificates, _HEADERS if self._elsewhere else None
        )
        async with openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._api_key,
            timeout=self._timeout,
            max_retries=self._max_retries,
            default_headers={"Accept-Encoding": "identity"},
            http_client=http_client,
        ) as sdk:
            body, failure, n_requests = None, None, 0
            while body is None and failure is None:
                left_out = self._left_out
                n_requests += 1
                try:
                    body = await self._send(sdk, messages, left_out)
                except openai.OpenAIError as error:
                    refused = self._refused(error, messages) - left_out
                    failure = None if refused else self._reason(error, http_client.n_tries)
                    with self._lock:
                        self._left_out |= refused
        self._count(retries=http_client.n_tries - n_requests)
        # Raised outside of any except clause: the package's errors hold headers with the key.
        if failure is not None:
            raise RuntimeError(self._clean(f"No answer from {self.name} after {failure}"))
        return self._read(body)

    async def _send(self, sdk, messages, left_out):
        """Body of the response to a question."""
        import httpx2

        optional = {k: v for k, v in self._optional.items() if k not in left_out}
        if "system" in left_out:
            messages = without_system(messages)
        fields = {"model": self.name, "messages": messages, **optional, **self._fields}
        response = await sdk.post("/chat/completions", cast_to=httpx2.Response, body=fields)
        return response.content

    def _refused(self, error, messages):
        """Names of the optional parts of a question that the server refuses."""
        if getattr(error, "status_code", None) not in (400, 422):
            return frozenset()
        removable = set(self._optional)
        if any(message["role"] == "system" for message in messages):
            removable.add("system")
        return frozenset(
            name
            for name in removable
            if re.search(_REFUSED[name], error.response.text, re.IGNORECASE)
        )

    def _reason(self, error, n_tries):
        """Number of tries and reason of the last one's failure, as text."""
        tries = f"{n_tries} {'try' if n_tries == 1 else 'tries'}: "
        status = getattr(error, "status_code", None)
        if status is None:
            return f"{tries}{error}"
        text = error.response.text.strip()
        if error.response.extensions.get("no_response"):
            return f"{tries}{text}"
        hint = ""
        address = error.response.headers.get("location")
        if status in range(300, 400) and address:
            hint = f"the server redirects to {address}; if that is right, give it as base_url. "
        elif status in (401, 403) and self._api_key == _NO_KEY:
            hint = "no key was sent: beside a base_url, api_key must be given. "
        elif status in (400, 422):
            named = [name for name in _AUTO if name in self._fields and name in text]
            hint = "".join(f"{name}=None leaves {name} to the server. " for name in named)
        # The package quotes the message where the body has one at its usual place.
        return f"{tries}{hint}{error}" if " - " in str(error) else f"{tries}{hint}{error} {text}"

    def _read(self, body):
        """Text in the body of a response; a RuntimeError if there is none."""
        content, usage, trouble = _answer_in(body)
        self._count(
            calls=1,
            tokens_in=usage.get("prompt_tokens"),
            tokens_out=usage.get("completion_tokens"),
        )
        if trouble is not None:
            raise RuntimeError(self._clean(f"No answer from {self.name}: {trouble}"))
        return content

    def _clean(self, message):
        """Message without keys, passwords and control characters, and of bounded length."""
        for secret in self._secrets:
            message = message.replace(secret, "***")
        message = visible(message)
        return message if len(message) <= _LONGEST_REASON else f"{message[:_LONGEST_REASON]}..."

    def _count(self, **counts):
        with self._lock:
            for name, count in counts.items():
                self.usage[name] += count if isinstance(count, int) else 0


def _http_client(seconds, wait, certificates, headers):
    """HTTP client of which each try ends in time and has a response of bounded size.

    The time limits of the package are those of single reads, so that a server that sends a byte
    now and then is never late. A try without a usable response counts as status 503, which the
    package tries again; it is told the pause by the header that it obeys.
    """
    import httpx2

    class BoundedClient(httpx2.AsyncClient):
        n_tries = 0

        async def send(self, request, **options):
            self.n_tries += 1
            for name in [name for name in request.headers if headers and name not in headers]:
                del request.headers[name]
            options |= {"stream": True, "follow_redirects": False}
            try:
                async with asyncio.timeout(seconds):
                    response = await _whole(await super().send(request, **options))
                if response.is_success:
                    _answer_in(response.content)
                trouble = None
            except _UnusableError as error:
                trouble = str(error)
            except (TimeoutError, httpx2.TimeoutException):
                trouble = f"no whole response in {seconds} s"
            except httpx2.RequestError as error:
                trouble = f"Connection error: {error}"
            if trouble is not None:
                mark = {"no_response": True}
                response = httpx2.Response(503, content=trouble, request=request, extensions=mark)
            if not {"retry-after", "retry-after-ms"} & set(response.headers):
                pause = min(wait * 2.0 ** min(self.n_tries - 1, 60), _LONGEST_WAIT)
                milliseconds = max(1.0, 1000 * pause * random.uniform(0.75, 1.0))
                response.headers["retry-after-ms"] = str(milliseconds)
            return response

    return BoundedClient(timeout=seconds, verify=certificates)


async def _whole(response):
    """A response with its body, which must be of bounded size."""
    import httpx2
    import openai

    body = bytearray()
    try:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise openai.OpenAIError("the server's response is compressed, which was not asked for")
        async for part in response.aiter_raw():
            body += part
            if len(body) > _LARGEST_BODY:
                raise openai.OpenAIError(f"the server's response exceeds {_LARGEST_BODY} bytes")
    finally:
        await response.aclose()
    status, headers = response.status_code, response.headers
    return httpx2.Response(status, headers=headers, content=bytes(body), request=response.request)


def _finished(coroutine):
    """Result of a coroutine that runs in a thread of its own.

    In notebooks an event loop runs already in the caller's. The thread is a daemon, so that a
    process that was interrupted need not wait for the server.
    """
    result = Future()

    async def run():
        try:
            result.set_result(await coroutine)
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    return result.result()


def _answer_in(body):
    """``(content, usage, trouble)`` of the body of a response; `trouble` is a reason or None.

    Raises
    ------
    _UnusableError
        If it is no response of a chat or holds no text, which another try may change.
    """
    try:
        response = json.loads(body)
        usage, choice = response.get("usage"), response["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
        thoughts = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(content, list):  # parts, of which some may be thoughts or pictures
            parts = [part for part in content if part.get("type") in ("text", "output_text")]
            content = "".join(part["text"] for part in parts)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        text = body.decode(errors="replace").strip()
        raise _UnusableError(f"the server's response is not that of a chat: {text}") from error
    trouble = None
    if finish == "length":
        trouble = "it was cut off before the end; raise the limit of tokens by options"
    elif finish == "content_filter":
        trouble = "a content filter stopped it"
    elif isinstance(refusal, str) and refusal:
        trouble = f"the model refuses: {refusal}"
    elif not isinstance(content, str) or not content.strip():
        raise _UnusableError(
            f"the server's response holds {'thoughts but ' * bool(thoughts)}no text"
        )
    return content, usage if isinstance(usage, dict) else {}, trouble


def _checked_options(options):
    """Further fields of a request, of which the client sets none itself."""
    for name in options:
        if name in ("model", "messages", "stream", "n"):
            raise ValueError(f"options must not hold {name!r}, which OpenAIClient sets itself.")
    json.dumps(options)  # a TypeError or ValueError now rather than with each question
    return dict(options)


def _checked_url(url):
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port, or of brackets
        usable = False
    if not usable or re.search(r"\s", url):
        raise ValueError(
            f"base_url must be an address such as 'http://localhost:8000/v1'. Got "
            f"{_without_password(url)!r} instead."
        )
    if parts.query or parts.fragment:
        raise ValueError("base_url must be an address without '?' and '#'.")
    return url


def _without_password(url):
    return re.sub(r"^(\w+://)?[^/?#]*@", r"\1", url)


def _secrets(url, key):
    """Strings that no message may hold, the longest first."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    secrets = {parts.password, password, None if key == _NO_KEY else key}
    if user or password:
        secrets.add(base64.b64encode(f"{user}:{password}".encode()).decode())
    return sorted(filter(None, secrets), key=len, reverse=True)
