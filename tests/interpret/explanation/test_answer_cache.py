import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.interpret import CachedClient
from tests.cases import each_case, tries


class Counter:
    name = "counter"

    def __init__(self, identity="one"):
        self.identity, self.asked = identity, []

    def complete(self, messages):
        self.asked.append(messages)
        if messages[0]["content"] == "fail":
            raise OSError("no server")
        return f"{self.identity}: {messages[0]['content']}\n한 \ud800"


def question(text):
    return [{"role": "user", "content": text}]


def test_what_was_asked_once_is_not_asked_again(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    first, second = Counter(), Counter()
    said = CachedClient(first, path).complete(question("hello"))
    client = CachedClient(second, path)
    assert client.complete(question("hello")) == said == "one: hello\n한 \ud800"
    assert (len(first.asked), second.asked, client.n_found, client.n_asked) == (1, [], 1, 0)
    assert client.name == "counter"


def test_models_that_differ_do_not_share_answers(tmp_path):
    path = tmp_path / "a.jsonl"
    CachedClient(Counter({"model": "a", "seed": 0}), path).complete(question("x"))
    other = Counter({"model": "a", "seed": 1})
    CachedClient(other, path).complete(question("x"))
    assert len(other.asked) == 1
    same = Counter({"seed": 0, "model": "a"})
    CachedClient(same, path).complete(question("x"))
    assert same.asked == []


def test_a_client_without_an_identity_needs_one(tmp_path):
    class Nameless:
        def complete(self, messages):
            return "x"

    with pytest.raises(ValueError, match="Nameless does not say which model"):
        CachedClient(Nameless(), tmp_path / "a")
    assert CachedClient(Nameless(), tmp_path / "a", identity="m").complete(question("x")) == "x"


def test_errors_and_what_is_no_string_are_not_kept(tmp_path):
    client = CachedClient(Counter(), tmp_path / "a")
    for _ in range(2):
        with pytest.raises(OSError, match="no server"):
            client.complete(question("fail"))
    assert client.n_asked == 2
    assert (tmp_path / "a").read_bytes() == b""


@settings(max_examples=tries(30), deadline=None)
@given(st.integers(1, 400), st.binary(max_size=20))
def test_a_file_cut_anywhere_loses_its_last_answer_at_most(tmp_path_factory, cut, rubbish):
    path = tmp_path_factory.mktemp("cut") / "a"
    client = CachedClient(Counter(), path)
    for i in range(3):
        client.complete(question(str(i)))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 90)] + rubbish)  # the first line's beginning
    kept = sum(json.dumps(f"one: {i}\n한 \ud800").encode() in path.read_bytes() for i in range(3))
    again = CachedClient(Counter(), path)
    said = [again.complete(question(str(i))) for i in range(3)]
    assert said == [f"one: {i}\n한 \ud800" for i in range(3)]
    assert again.n_found >= kept - 1  # the last one may lack its line break
    once_more = CachedClient(Counter(), path)
    assert [once_more.complete(question(str(i))) for i in range(3)] == said
    assert once_more.n_asked == 0


@each_case("left", [0, 1, 2, 9, 40, 90, 100])
def test_a_first_line_that_was_cut_off_is_no_obstacle(tmp_path, left):
    path = tmp_path / "a"
    CachedClient(Counter(), path).complete(question("x"))
    path.write_bytes(path.read_bytes()[:left])
    for n_asked in (1, 0):
        client = CachedClient(Counter(), path)
        assert client.complete(question("x")) == "one: x\n한 \ud800"
        assert client.n_asked == n_asked


@each_case(
    "content",
    [
        "A diary.\n",
        '{"key": "q1", "answer": "a data set of questions"}\n',
        '{"format": "sksae explanations"}',
        "\n\n[]",
        "\x00" * 99,
    ],
)
def test_nothing_is_added_to_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "a"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a file of answers, and nothing is added to it"):
        CachedClient(Counter(), path)
    assert path.read_text() == content


def test_a_cache_needs_a_file_and_a_client(tmp_path):
    with pytest.raises(ValueError, match="is not a file of answers"):
        CachedClient(Counter(), tmp_path)
    with pytest.raises(TypeError, match="must have a method complete"):
        CachedClient("gpt", tmp_path / "a", identity="x")
    with pytest.raises(TypeError, match="not JSON serializable"):
        CachedClient(Counter(object()), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits on the size of files")
def test_on_a_full_disk_an_answer_is_kept_until_there_is_space(tmp_path):
    import resource

    path = tmp_path / "a"
    client = CachedClient(Counter(), path)
    client.complete(question("0"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Room for a part of the next line, and then for nothing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, limits[1]))
    try:
        for text in ("1", "2"):
            with pytest.raises(OSError, match=r"keeps the answer and writes it when.*/a"):
                client.complete(question(text))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert client.complete(question("2")) == "one: 2\n한 \ud800"
    assert (client.n_asked, client.n_found, len(client.client.asked)) == (3, 1, 3)
    again = CachedClient(Counter(), path)
    assert [again.complete(question(str(i))) for i in range(3)] == [
        f"one: {i}\n한 \ud800" for i in range(3)
    ]
    assert again.n_asked == 0


def test_threads_share_one(tmp_path):
    class Slow(Counter):
        def complete(self, messages):
            time.sleep(0.002)  # the same question comes again meanwhile
            return super().complete(messages)

    client = CachedClient(Slow(), tmp_path / "a")
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda i: client.complete(question(str(i // 10))), range(200)))
    assert said == [f"one: {i // 10}\n한 \ud800" for i in range(200)]
    assert (client.n_asked, client.n_found, len(client.client.asked)) == (20, 180, 20)
    again = CachedClient(Counter(), tmp_path / "a")
    for i in range(20):
        again.complete(question(str(i)))
    assert again.n_asked == 0


def test_another_process_sees_an_answer_as_soon_as_it_is_there(tmp_path):
    first, second = (CachedClient(Counter(), tmp_path / "a") for _ in range(2))
    first.complete(question("x"))
    second.complete(question("x"))
    assert (second.n_asked, second.n_found) == (0, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_processes_share_a_file_and_answers_survive_when_one_is_killed(tmp_path):
    code = """
import os, signal, sys
from sksae.interpret import CachedClient
class Once:
    identity = "one"
    def complete(self, messages):
        if messages[0]["content"] == "40":
            os.kill(os.getpid(), signal.SIGKILL)
        return "kept"
client = CachedClient(Once(), sys.argv[1])
for i in range(41):
    client.complete([{"role": "user", "content": str(i)}])
"""
    path = tmp_path / "a"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    mine = CachedClient(Counter(), path)
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment) as other:
        number = 100
        while other.poll() is None:
            mine.complete(question(str(number)))
            number += 1
            time.sleep(0.001)
    assert other.returncode == -signal.SIGKILL
    client = CachedClient(Counter(), path)
    assert [client.complete(question(str(i))) for i in range(40)] == ["kept"] * 40
    for i in range(100, number):
        client.complete(question(str(i)))
    assert client.n_asked == 0
