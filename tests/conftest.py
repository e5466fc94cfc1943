"""Array API support, fonts that every machine has, and the estimators as parameters.

scipy reads ``SCIPY_ARRAY_API`` once, when it is imported, and scikit-learn refuses array API
dispatch without it. pytest has no setting for the environment; it imports this file, as the
conftest of one of the ``testpaths``, before it collects anything, doctests under ``sksae/``
included, and this file imports scipy last.
"""

import functools
import gc
import importlib.util
import os
import sys
from pathlib import Path

if "scipy" in sys.modules:
    raise RuntimeError("A pytest plugin imported scipy before SCIPY_ARRAY_API could be set.")
os.environ["SCIPY_ARRAY_API"] = "1"
# Loops are compiled only where tests are run once more with them (see .ci/run): it takes a minute.
# Uncompiled, tests of their own hold them against torch, and everything else uses torch.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import hypothesis
import numpy as np
import pytest
import sklearn
import torch

from sksae.datasets import _corpus
from tests.cases import tries
from tests.estimators import REPRESENTATIVES, SAES, instances, name_of

PASSES = 5

# Examples that failed on another day are not replayed, and nothing is written to the checkout.
# How fast a machine is decides over no test.
hypothesis.settings.register_profile(
    "sksae",
    max_examples=tries(100),
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("sksae")


# To read the corpus from the installed packages takes a second; one test file in ten needs it.
_corpus._corpus_documents = functools.cache(_corpus._corpus_documents)


def hide_installed_fonts():
    """Leave matplotlib its own fonts, so that pictures are the same on every machine.

    Returns
    -------
    hidden : list of matplotlib.font_manager.FontEntry
        The fonts of this machine, which matplotlib knows no longer.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from matplotlib import get_data_path
    from matplotlib.font_manager import fontManager

    own, hidden = [], []
    for font in fontManager.ttflist:
        (own if Path(font.fname).is_relative_to(get_data_path()) else hidden).append(font)
    fontManager.ttflist = own
    return hidden


INSTALLED_FONTS = (
    hide_installed_fonts()
)  # at once, for the sake of doctests, which have no fixtures


@pytest.fixture
def installed_fonts(monkeypatch):
    """Give matplotlib the fonts of this machine back for one test, and return their names."""
    font_manager = pytest.importorskip("matplotlib.font_manager")
    known = [*font_manager.fontManager.ttflist, *INSTALLED_FONTS]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    return {font.name for font in known}


def pytest_collection_finish():
    """Leave what the imports made, a million objects, out of every later search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc):
    """``SAE`` runs a test for every class, ``sae`` for every instance worth telling apart."""
    if "SAE" in metafunc.fixturenames:
        # Costly tests of code that all classes share: two classes stand for it in the default run.
        costly = metafunc.definition.get_closest_marker("costly")
        marked = [
            pytest.param(
                cls, marks=[pytest.mark.slow] * bool(costly and cls not in REPRESENTATIVES)
            )
            for cls in SAES
        ]
        metafunc.parametrize("SAE", marked, ids=lambda cls: cls.__name__)
    if "sae" in metafunc.fixturenames:
        saes = instances(max_iter=PASSES, random_state=0)
        representatives = [cls() for cls in REPRESENTATIVES]
        costly = bool(metafunc.definition.get_closest_marker("costly"))
        # The path of sparse codes is shared: one variant stands for it in the default run.
        marked = [
            pytest.param(
                sae,
                marks=[pytest.mark.slow]
                * (
                    type(sae) is not SAES[0]
                    if sae.sparse_output
                    else costly and name_of(sae) not in map(name_of, representatives)
                ),
            )
            for sae in saes
        ]
        metafunc.parametrize("sae", marked, ids=name_of, indirect=True)


@pytest.fixture
def sae(request):
    """A new estimator a test: some tests set parameters."""
    return sklearn.clone(request.param)


@pytest.fixture(scope="session")
def sparse_rows():
    """Rows that are sparse non-negative mixtures of 24 directions in 12 dimensions, float64."""
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(24, 12))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = rng.exponential(size=(400, 24)) * (rng.random((400, 24)) < 0.1)
    X = codes @ directions + 0.01 * rng.normal(size=(400, 12)) + rng.normal(size=12)
    X.setflags(write=False)
    return X


@pytest.fixture
def X(sparse_rows):
    """A writeable float64 copy of `sparse_rows`."""
    return sparse_rows.copy()


@pytest.fixture
def unchanged_world():
    """Fail a test that leaves global random state, threads or settings other than they were."""
    threads, seeded = torch.get_num_threads(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the state being watched
    dtype, config = torch.get_default_dtype(), sklearn.get_config()
    deterministic = torch.are_deterministic_algorithms_enabled()
    grad = torch.is_grad_enabled()
    yield
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), seeded)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002 - as above
    assert (torch.get_default_dtype(), sklearn.get_config()) == (dtype, config)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.is_grad_enabled() == grad
