"""Cases that share a test id: all run, and each that fails is named."""

import inspect

import pytest

from tests.cases import each_case


def test_all_cases_run_and_those_that_fail_are_named(tmp_path):
    seen, folders = [], set()

    @each_case("number, word", [(1, "one"), (2, "two"), (3, "three")])
    @each_case("sign", [-1, 1])
    def several(number, word, sign, tmp_path):
        seen.append((number, word, sign))
        folders.add(tmp_path)
        assert tmp_path.is_dir()
        if word == "one":
            with pytest.raises(ValueError):
                pass
        assert number < 3

    with pytest.raises(BaseExceptionGroup, match=r"2 of 3 cases failed") as caught:
        several(tmp_path=tmp_path)
    assert seen == [(n, w, s) for n, w in [(1, "one"), (2, "two"), (3, "three")] for s in (-1, 1)]
    assert len(folders) == 6
    notes = ["Case 0: {'sign': -1}", "Case 1: {'sign': 1}"]
    for group, own in zip(
        caught.value.exceptions,
        ["Case 0: {'number': 1, 'word': 'one'}", "Case 2: {'number': 3, 'word': 'three'}"],
        strict=True,
    ):
        assert group.__notes__ == [own]
        assert [error.__notes__ for error in group.exceptions] == [[note] for note in notes]


def test_one_case_that_fails_is_its_own_error():
    @each_case("value", [1, 0])
    def one(value):
        assert 1 / value

    with pytest.raises(ZeroDivisionError) as caught:
        one()
    assert caught.value.__notes__ == ["Case 1: {'value': 0}"]


def test_fixtures_are_still_asked_for():
    @each_case("value", [1])
    def one(value, tmp_path, capsys):
        """Anything."""

    assert list(inspect.signature(one).parameters) == ["tmp_path", "capsys"]
    assert one.__doc__ == "Anything."


@each_case("value", ["a", "b"])
def test_a_test_of_cases_is_found_by_pytest(value, tmp_path):
    assert list(tmp_path.iterdir()) == []
    (tmp_path / value).touch()


@each_case("value", [1, 2])
def test_what_a_case_patches_is_undone_at_its_end(value, monkeypatch):
    assert not hasattr(pytest, "patched_by_a_case")
    monkeypatch.setattr(pytest, "patched_by_a_case", value, raising=False)
