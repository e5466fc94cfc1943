"""Cases of one test that are told apart only by values, and the number of random ones."""

import functools
import inspect
import os
from contextlib import ExitStack

import pytest

ALL_EXAMPLES = os.environ.get("SKSAE_EXAMPLES") == "all"


def tries(n):
    """Return how many random examples a property is tried on: `n`, in the default run a third.

    The environment variable ``SKSAE_EXAMPLES=all`` asks for `n`, as `.ci/run` does.
    """
    return n if ALL_EXAMPLES else min(n, max(10, n // 3))


def each_case(names, cases):
    """Run a test for every case, and report each that fails with the values of the case.

    In place of ``pytest.mark.parametrize`` where a case needs no fixtures of its own: the cases
    share those of the test, except that each has its own folder under `tmp_path`, and that what a
    case does with `monkeypatch` is undone at its end.

    Parameters
    ----------
    names : str
        The arguments that the cases give, separated by commas.
    cases : iterable
        A tuple of values per case, or the value where `names` is a single name.

    Returns
    -------
    decorate : callable
        Turns a test of one case into a test of all.
    """
    names = [name.strip() for name in names.split(",")]
    cases = [case if len(names) > 1 else (case,) for case in cases]

    def decorate(test):
        signature = inspect.signature(test)

        @functools.wraps(test)
        def test_of_all(**fixtures):
            failed = []
            for number, case in enumerate(cases):
                given = {**fixtures, **dict(zip(names, case, strict=True))}
                if "tmp_path" in given:
                    given["tmp_path"] = given["tmp_path"] / f"case{number}"
                    given["tmp_path"].mkdir()
                try:
                    with ExitStack() as undone:
                        if "monkeypatch" in given:
                            context = given["monkeypatch"].context()
                            given["monkeypatch"] = undone.enter_context(context)
                        test(**given)
                except (Exception, pytest.fail.Exception, BaseExceptionGroup) as error:
                    error.add_note(f"Case {number}: {dict(zip(names, case, strict=True))!r:.500}")
                    failed.append(error)
            if len(failed) == 1:
                raise failed[0]
            if failed:
                raise BaseExceptionGroup(f"{len(failed)} of {len(cases)} cases failed", failed)

        assert cases
        others = [p for name, p in signature.parameters.items() if name not in names]
        test_of_all.__signature__ = signature.replace(parameters=others)
        return test_of_all

    return decorate
