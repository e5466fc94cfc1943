import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sksae.interpret import CachedClient, OpenAIClient, explain, score_explanations
from tests.cases import each_case
from tests.interpret.explanation.chat_server import Reply, chat_server, said
from tests.interpret.explanation.planted import Oracle, planted_atlas

pytest.importorskip("openai")
QUESTION = [{"role": "user", "content": "한 <<tea>> \n🫖"}]
ERROR = {"error": {"message": "not today", "type": "server_error"}}


def client_of(server, **options):
    return OpenAIClient("m", base_url=server.url, **{"wait": 0.001, "timeout": 60.0, **options})


@pytest.fixture
def waits(monkeypatch):
    """How long clients wait, without waiting."""
    found = []

    async def sleep(seconds):
        found.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    return found


def test_a_question_is_sent_as_the_protocol_wants():
    with chat_server([said(" 답 ")]) as server:
        client = client_of(server, api_key="secret", seed=3, options={"max_tokens": 9})
        assert client.complete(QUESTION) == " 답 "
    path, headers, request = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert request == {
        "model": "m",
        "messages": QUESTION,
        "temperature": 0.0,
        "seed": 3,
        "max_tokens": 9,
    }
    assert client.usage == {"calls": 1, "retries": 0, "tokens_in": 7, "tokens_out": 3}
    assert "secret" not in repr(client) + str(client.identity)
    assert client.identity["model"] == client.name == "m"


def test_what_is_none_is_not_sent():
    with chat_server([said("x")]) as server:
        client_of(server, temperature=None, seed=None).complete(QUESTION)
    assert set(server.requests[0][2]) == {"model", "messages"}


@each_case(
    "bad",
    [
        Reply(ERROR, 500),
        Reply(b"<html>bad gateway</html>", 502),
        Reply(ERROR, 429),
        Reply(ERROR, 408),
        Reply(b"{not json"),
        Reply(b""),
        Reply(b"\xff\xfe"),
        Reply({"choices": []}),
        Reply({"choices": None}),
        Reply([1]),
        Reply(b"7"),
        said(None),
        said("  "),
        said("text", cut=9),
        Reply(b"[" * 100_000),
    ],
)
def test_what_may_pass_is_tried_again(bad):
    with chat_server([bad, bad, said("at last")]) as server:
        client = client_of(server, max_retries=2)
        assert client.complete(QUESTION) == "at last"
    assert client.usage["retries"] == 2
    assert len(server.requests) == 3


@pytest.mark.parametrize("bad", [Reply(ERROR, 500), Reply(b"{}")], ids=["status", "garbage"])
def test_after_the_last_try_it_says_so(bad):
    with (
        chat_server([bad]) as server,
        pytest.raises(RuntimeError, match="No answer from m after 3 tries"),
    ):
        client_of(server, max_retries=2).complete(QUESTION)
    assert len(server.requests) == 3


@each_case("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(status):
    with (
        chat_server([Reply(ERROR, status)]) as server,
        pytest.raises(RuntimeError, match=r"after 1 try: .*not today"),
    ):
        client_of(server).complete(QUESTION)
    assert len(server.requests) == 1


def test_a_slow_answer_is_given_up():
    """More than once where the machine itself is slow."""
    with chat_server([said("late", delay=5.0), said("in time")]) as server:
        client = client_of(server, timeout=0.1, max_retries=50)
        assert client.complete(QUESTION) == "in time"
    assert len(server.requests) == 1 + client.usage["retries"] >= 2


def test_a_server_that_is_not_there():
    client = OpenAIClient("m", base_url="http://127.0.0.1:9/v1", max_retries=1, wait=0.0)
    with pytest.raises(RuntimeError, match="No answer from m after 2 tries: Connection error"):
        client.complete(QUESTION)


def test_the_server_says_how_long_to_wait(waits):
    busy = Reply(ERROR, 429, {"Retry-After": "7"})
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with chat_server([busy, Reply(ERROR, 503, {"Retry-After": later}), said("x")]) as server:
        assert client_of(server).complete(QUESTION) == "x"
    assert waits[0] == 7.0
    assert 8 < waits[1] <= 31  # less what passed since it was written


def test_a_server_that_wants_hours_is_not_waited_for(waits):
    with (
        chat_server([Reply(ERROR, 429, {"Retry-After": "3600"})]) as server,
        pytest.raises(RuntimeError, match=r"after 1 try: .*not today"),
    ):
        client_of(server).complete(QUESTION)
    assert waits == []


def test_the_wait_doubles(waits):
    errors = [Reply(ERROR, 500), Reply(b"rubbish"), said("cut", cut=9), Reply(ERROR, 500)]
    with chat_server([*errors, Reply(ERROR, 500), said("x")]) as server:
        client_of(server, wait=1.0).complete(QUESTION)
    assert len(waits) == 5
    for attempt, wait in enumerate(waits):
        assert 0.75 * 2**attempt <= wait <= 2**attempt


@each_case(
    "options, message",
    [
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"options": 3}, "options"),
        ({"temperature": "hot"}, "temperature must be 'auto', a float >= 0 or None"),
        ({"seed": 0.5}, "seed must be 'auto', an int or None"),
        ({"options": {"stream": True}}, "options must not hold 'stream'"),
        ({"base_url": "localhost:8000/v1"}, "base_url must be an address such as"),
        ({"base_url": "http://[::1/v1"}, "base_url must be an address such as"),
        ({"base_url": "http://a b/v1"}, "base_url must be an address such as"),
        ({"base_url": ""}, "base_url must be an address such as"),
        ({"base_url": "file://u:pass@/x"}, "Got 'file:///x' instead"),
        ({"base_url": "http://h/v1?key=x"}, r"without '\?'"),
        ({"api_key": "sk-x\n"}, "api_key must consist of printable ASCII"),
    ],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        OpenAIClient("m", **{"base_url": "http://127.0.0.1:9/v1", **options})


def test_a_key_of_another_type_is_not_shown():
    with pytest.raises(TypeError, match="api_key must be a str or None, not a bytes") as raised:
        OpenAIClient("m", api_key=b"sk-MYKEY")
    assert "MYKEY" not in str(raised.value)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'sksae\[explain\]'"):
        OpenAIClient("m")


def refusing(word, message):
    """A server that refuses requests in which `word` occurs."""

    def script(number, request):
        if word in json.dumps(request):
            return Reply({"error": {"message": message}}, 400)
        return said("EXPLANATION: cats")

    return script


@each_case(
    "word, message",
    [
        ("temperature", "'temperature' does not support 0 with this model. Only the default (1)"),
        ("seed", "Unknown parameter: 'seed'"),
        ('"system"', "System role not supported"),
        ('"system"', "Conversation roles must alternate user/assistant/user/assistant/..."),
    ],
)
def test_what_a_server_refuses_is_left_out_from_then_on(word, message):
    messages = [{"role": "system", "content": "You study."}, *QUESTION]
    with chat_server(refusing(word, message)) as server:
        client = client_of(server)
        assert [client.complete(messages) for _ in range(2)] == ["EXPLANATION: cats"] * 2
    assert len(server.requests) == 3
    assert client.usage["retries"] == 0
    request = server.requests[-1][2]
    whole = {"temperature": 0.0, "seed": 0, "model": "m", "messages": messages}
    if "system" in word:
        joined = f"You study.\n\n{QUESTION[0]['content']}"
        assert request == whole | {"messages": [{"role": "user", "content": joined}]}
    else:
        assert request == {k: v for k, v in whole.items() if k != word}


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"options": {"temperature": 0}}])
def test_a_temperature_that_was_asked_for_is_not_left_out(options):
    with (
        chat_server(refusing("temperature", "no 'temperature', please")) as server,
        pytest.raises(RuntimeError, match=r"temperature=None leaves temperature to the server"),
    ):
        client_of(server, **options).complete(QUESTION)
    assert len(server.requests) == 1


def parted(*parts):
    return said([{"type": kind, kind: text} for kind, text in parts])


def test_content_may_come_in_parts():
    reply = parted(("thinking", ["hm"]), ("text", "EXPLANATION: "), ("text", "한 🫖"))
    with chat_server([reply]) as server:
        assert client_of(server).complete(QUESTION) == "EXPLANATION: 한 🫖"


@each_case(
    "reply, message",
    [
        (said(None, "content_filter"), "No answer from m: a content filter stopped it"),
        (said("EXPLA", "content_filter"), "a content filter stopped it"),
        (said(None, refusal="I will not."), "the model refuses: I will not."),
        (said("EXPLANATION: names of", "length"), "cut off before the end; raise the limit"),
        (said(None, "length", reasoning_content="well"), "cut off before the end"),
        (Reply(b"x" * 20, headers={"Content-Encoding": "br"}), "is compressed"),
        (Reply(b" " * (2**24 + 1)), "exceeds 16777216 bytes"),
        (Reply({"detail": "no such model"}, 404), r"after 1 try: .*404.*no such model"),
        (Reply(b"<html>\x1b[31mno</html>", 400), r"<html>.\[31mno</html>"),
        (Reply(ERROR, 401), "no key was sent"),
    ],
)
def test_what_cannot_change_is_asked_once(reply, message):
    with chat_server([reply]) as server, pytest.raises(RuntimeError, match=message) as raised:
        client_of(server).complete(QUESTION)
    assert len(server.requests) == 1
    assert len(str(raised.value)) < 600
    assert "\x1b" not in str(raised.value)


def test_thoughts_are_no_answer():
    with (
        chat_server([said(None, reasoning_content="EXPLANATION: boats")]) as server,
        pytest.raises(RuntimeError, match="holds thoughts but no text"),
    ):
        client_of(server, max_retries=0).complete(QUESTION)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_drips_is_given_up(part):
    """A byte now and then satisfies every time limit of a single read."""
    slowly = Reply(b" " * 50, drip=0.05, **({"drips_headers": True} if part == "head" else {}))
    with (
        chat_server([slowly]) as server,
        pytest.raises(RuntimeError, match=r"after 1 try: no whole response in 0\.2 s"),
    ):
        client_of(server, timeout=0.2, max_retries=0).complete(QUESTION)


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_no_error_shows_the_key_or_the_password():
    def echo(number, request):
        headers = server.requests[number][1]
        body = f"{'x' * 480} {headers['authorization']} pass-word sk-MYKEY"
        return Reply(body.encode(), status=(401, 200)[number % 2])

    with chat_server(echo) as server:
        for url in (server.url, server.url.replace("//", "//me:pass-word@")):
            client = OpenAIClient("m", base_url=url, api_key="sk-MYKEY", max_retries=0)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="xxx") as raised:
                    client.complete(QUESTION)
                shown = "".join(f"{error!r} {error}" for error in chain(raised.value))
                assert not re.search(r"MYK|pass|bWU6", shown + repr(client) + str(client.identity))
        assert repr(client) == f"OpenAIClient('m', base_url='{server.url}')"
        assert client.identity["base_url"] == f"{server.url}/"
    basic = base64.b64encode(b"me:pass-word").decode()
    assert server.requests[2][1]["authorization"] == f"Basic {basic}"


def test_what_the_environment_sets_for_openai_goes_to_no_other_server(monkeypatch):
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-openai")
    with chat_server([said("x")]) as server:
        client_of(server).complete(QUESTION)
        assert "of-openai" not in str(server.requests)
        # An address that the environment gives is one that its other variables are meant for.
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        OpenAIClient("m").complete(QUESTION)
    headers = server.requests[1][1]
    assert headers["authorization"] == "Bearer of-openai"
    assert headers["openai-organization"] == headers["x-secret"] == "of-openai"


@each_case("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(status):
    with (
        chat_server([said("x")]) as other,
        chat_server([Reply(b"", status, {"Location": f"{other.url}/x"})]) as server,
        pytest.raises(RuntimeError, match=f"the server redirects to {other.url}/x"),
    ):
        client_of(server).complete(QUESTION)
    assert len(server.requests) == 1
    assert other.requests == []


@pytest.mark.slow
def test_an_interrupted_process_waits_for_no_try():
    """The server accepts and says nothing; each question would take ten minutes.

    A local model stops at a token: a process that left while torch computes would be aborted.
    """
    code = """
import os, signal, sys, threading
from sksae.interpret.explanation._client_calls import ask
from sksae.datasets import load_tiny_lm
from sksae.interpret import LocalClient, OpenAIClient
local = LocalClient(*load_tiny_lm(), max_new_tokens=200)
client = OpenAIClient("m", base_url=sys.argv[1], timeout=300, max_retries=1)
question = [{"role": "user", "content": "x"}]
for wait in (
    lambda: client.complete(question),
    lambda: ask(client, [question] * 3),
    lambda: ask(local, [question] * 500),
):
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        wait()
    except KeyboardInterrupt:
        print("interrupted")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-c", code, f"http://127.0.0.1:{silent.getsockname()[1]}"]
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=200, text=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n" * 3, "")


def test_a_running_event_loop_is_no_obstacle():
    async def in_a_notebook():
        return client_of(server).complete(QUESTION)

    with chat_server([said("x")]) as server:
        assert asyncio.run(in_a_notebook()) == "x"


def oracle(number, request):
    return said(Oracle().complete(request["messages"]), delay=0.005)


def test_never_more_questions_at_once_than_allowed():
    atlas = planted_atlas(n_texts=60)
    with chat_server(oracle) as server:
        explain(atlas, client_of(server), max_concurrency=2)
        score_explanations(atlas, {0: "tea", 1: "rain"}, client_of(server), max_concurrency=2)
    assert len(server.requests) > 10
    assert server.most <= 2


def test_a_second_run_sends_nothing_and_an_interrupted_one_goes_on(tmp_path):
    atlas = planted_atlas()
    refused = {"on": True}

    def script(number, request):
        if refused["on"] and request["messages"][1]["content"].count("rain") > 3:
            return Reply(ERROR, 400)
        return oracle(number, request)

    with chat_server(script) as server:

        def run():
            return explain(atlas, CachedClient(client_of(server), tmp_path / "a.jsonl"))

        with pytest.warns(UserWarning, match="1 of 3 features have no explanation: 1; feature 1"):
            first = run()
        assert list(first) == [0, 2]
        refused["on"] = False
        second = run()
        assert {i: str(e) for i, e in second.items()} == {0: "tea", 1: "rain", 2: "stone"}
        assert len(server.requests) == 4
        assert run() == second
        assert len(server.requests) == 4
    assert {e.source for e in second.values()} == {"m"}


def test_the_result_does_not_depend_on_who_answers_first():
    atlas = planted_atlas()
    found = []
    for direction in (1, -1):

        def script(number, request, direction=direction):
            return said(
                Oracle().complete(request["messages"]), delay=0.01 * (direction * number % 3)
            )

        with chat_server(script) as server:
            client = client_of(server)
            explanations = explain(atlas, client, max_concurrency=3)
            found.append(score_explanations(atlas, explanations, client, max_concurrency=3))
    assert found[0] == found[1]
