import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sksae.interpret import CachedClient, OpenAIClient, explain, score_explanations
from tests.interpret.explanation.chat_server import Reply, chat_server, said
from tests.interpret.explanation.planted import Oracle, planted_atlas

pytest.importorskip("openai")
QUESTION = [{"role": "user", "content": "한 <<tea>> \n🫖"}]
ERROR = {"error": {"message": "not today", "type": "server_error"}}


def client_of(server, **options):
    return OpenAIClient("m", base_url=server.url, **{"wait": 0.001, "timeout": 5.0, **options})


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


def test_the_key_of_the_environment_goes_to_no_other_server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with chat_server([said("x")]) as server:
        client_of(server).complete(QUESTION)
    assert "secret" not in str(server.requests[0][1])


@pytest.mark.parametrize(
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
    ids=range(15),
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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(status):
    with (
        chat_server([Reply(ERROR, status)]) as server,
        pytest.raises(RuntimeError, match=r"after 1 try: .*not today"),
    ):
        client_of(server).complete(QUESTION)
    assert len(server.requests) == 1


def test_a_slow_answer_is_given_up():
    with chat_server([said("late", delay=0.5), said("in time")]) as server:
        assert client_of(server, timeout=0.1).complete(QUESTION) == "in time"
    assert len(server.requests) == 2


def test_an_answer_that_was_cut_off_is_an_error_at_once():
    with (
        chat_server([said("EXPLANATION: names of", "length")]) as server,
        pytest.raises(RuntimeError, match="cut off before the end"),
    ):
        client_of(server).complete(QUESTION)
    assert len(server.requests) == 1


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
    assert waits[1] == pytest.approx(30, abs=3)


def test_a_server_that_wants_hours_is_not_waited_for(waits):
    with (
        chat_server([Reply(ERROR, 429, {"Retry-After": "3600"})]) as server,
        pytest.raises(RuntimeError, match=r"after 1 try: .*not today"),
    ):
        client_of(server).complete(QUESTION)
    assert waits == []


def test_the_wait_doubles(waits):
    slow = said("late", delay=0.3)
    errors = [Reply(ERROR, 500), Reply(b"rubbish"), slow, Reply(ERROR, 500), Reply(ERROR, 500)]
    with chat_server([*errors, said("x")]) as server:
        client_of(server, wait=1.0, timeout=0.2).complete(QUESTION)
    assert len(waits) == 5
    for attempt, wait in enumerate(waits):
        assert 0.75 * 2**attempt <= wait <= 2**attempt


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"options": 3}, "options"),
    ],
    ids=["timeout", "max_retries", "options"],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        OpenAIClient("m", base_url="http://127.0.0.1:9/v1", **options)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'sksae\[explain\]'"):
        OpenAIClient("m")


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
