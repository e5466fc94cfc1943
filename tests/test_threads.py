"""sksae/_threads.py: small work on one thread, and the caller's number back."""

import os
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sksae import metrics
from sksae._threads import threads_for
from tests.cases import each_case
from tests.estimators import PREDICTORS, REPRESENTATIVES, instances, name_of, predictors


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_work_is_done_on_one_thread_and_large_work_on_all():
    with threads_for(1e7):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with threads_for(1e8):
        assert torch.get_num_threads() == 3


def test_nested_blocks_give_back_what_they_found():
    with threads_for(1):
        with threads_for(1e12):
            assert torch.get_num_threads() == 1
        with threads_for(2):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_threads_are_back_after_an_error(error):
    with pytest.raises(error), threads_for(1):
        raise error
    assert torch.get_num_threads() == 3


def test_one_thread_stays_one():
    torch.set_num_threads(1)
    with threads_for(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


# Two variants and a transcoder stand for the others in the default run.
FEW = [*(cls(max_iter=1) for cls in REPRESENTATIVES), predictors(max_iter=1)[0]]
OTHERS = [
    pytest.param(estimator, marks=pytest.mark.slow)
    for estimator in [*instances(max_iter=1), *predictors(max_iter=1)]
    if name_of(estimator) not in map(name_of, FEW)
]
NO_WORK = {torch.ops.aten.empty.memory_format, torch.ops.aten.lift_fresh.default}


class Threads(TorchDispatchMode):
    """The numbers of threads that operators run on, by the operator."""

    def __init__(self):
        super().__init__()
        self.by_operator = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func not in NO_WORK:
            self.by_operator.setdefault(str(func), set()).add(torch.get_num_threads())
        return func(*args, **(kwargs or {}))


@each_case("namespace", [np.asarray, torch.from_numpy])
@each_case("settings", [{}, {"early_stopping": True}])
@pytest.mark.parametrize("estimator", [*FEW, *OTHERS], ids=name_of)
def test_no_operator_of_a_small_fit_or_its_use_starts_threads(estimator, settings, namespace, X):
    targets = [namespace(X[:, :3])] if type(estimator) in PREDICTORS else []
    estimator = sklearn.clone(estimator)
    autoencoder = estimator.estimator if targets else estimator
    autoencoder.set_params(random_state=0, **settings)
    if namespace is not np.asarray:
        autoencoder.set_params(sparse_output=False)
    rows, weight = namespace(X), np.arange(1.0, len(X) + 1)
    with sklearn.config_context(array_api_dispatch=True), Threads() as threads:
        estimator.fit(rows, *targets, sample_weight=weight)
        if not settings:
            estimator.partial_fit(rows, *targets)
        codes = estimator.transform(rows)
        estimator.score(rows, *targets)
        if not getattr(estimator, "skip", False):
            estimator.inverse_transform(codes)
        if not targets and not autoencoder.sparse_output:
            metrics.explained_variance(rows, estimator.inverse_transform(codes))
    started = {name for name, used in threads.by_operator.items() if used != {1}}
    assert len(threads.by_operator) > 20
    assert started == set()


IN_A_CHILD = """
import multiprocessing, sys
import numpy as np, torch
from sksae import {names}

X = np.random.default_rng(0).normal(size=(70_000, 16)).astype(np.float32)

def everything(cls, n):
    wrapped = cls is Transcoder
    sae = (TopKSAE if wrapped else cls)({width}, max_iter=1, random_state=0)
    sae = Transcoder(sae) if wrapped else sae
    targets = (X[:n],) if cls is Transcoder else ()
    sae.fit(X[:n], *targets)
    sae.transform(X[:n])
    return sae.score(X[:n], *targets)

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.ones(3000, 3000) @ torch.ones(3000, 3000)  # threads that a child does not have
    tasks = [(cls, n) for cls in ({names},) for n in (300, {many})]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.starmap_async(everything, tasks).get(600)
    torch.set_num_threads(1)
    here = [everything(*task) for task in tasks]
    assert np.allclose(there, here, atol=1e-4), (there, here)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_child_fits_and_codes_whatever_threads_its_parent_used():
    names = ", ".join(cls.__name__ for cls in (*REPRESENTATIVES, *PREDICTORS))
    script = IN_A_CHILD.format(names=names, width=16, many=40_000)
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")


MODELS_IN_A_CHILD = """
import multiprocessing
import numpy as np, torch
from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import load_tiny_lm
from sksae.interpret import LocalClient
from sksae.language_models import attribute, downstream_metrics, steer

model, tokenizer = load_tiny_lm()
extractor = ActivationExtractor(model, 2, tokenizer=tokenizer)
texts = ["Return the mean of the array elements over the axis " * 8] * 8
question = [{"role": "user", "content": "mean"}]

def steered():
    with torch.no_grad(), steer(model, "2.resid_post", sae, {3: 20.0}):
        return float(model(**tokenizer(texts, return_tensors="pt")).logits.std())

def attributed():
    options = {"baseline": "mean", "background": texts, "tokenizer": tokenizer}
    return attribute(model, "2.resid_post", sae, "Return the mean", **options).effect.sum()

TASKS = {
    "extract": lambda: extractor.transform(texts).mean(),
    "vectorizer": lambda: SAEVectorizer(extractor, sae).fit_transform(texts).mean(),
    "downstream": lambda: downstream_metrics(extractor, sae, texts)["ce_patched"],
    "client": lambda: len(LocalClient(model, tokenizer, max_new_tokens=4).complete(question)),
    "steer": steered,
    "attribute": attributed,
}

def run(name):
    return float(TASKS[name]())

if __name__ == "__main__":
    rows = extractor.transform(texts[:1])
    sae = TopKSAE(32, k=4, max_iter=1, random_state=0).fit(rows)
    torch.set_num_threads(2)
    torch.ones(3000, 3000) @ torch.ones(3000, 3000)  # threads that a child does not have
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.map_async(run, TASKS, 1).get(600)
    torch.set_num_threads(1)
    here = [run(name) for name in TASKS]
    assert np.allclose(there, here, rtol=1e-3), (there, here)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_child_runs_language_models_whatever_threads_its_parent_used():
    command = [sys.executable, "-W", "ignore", "-c", MODELS_IN_A_CHILD]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
