"""Searches on clusters of dask and ray, each of two workers on this machine."""

import importlib.util
import subprocess
import sys

import pytest

SEARCH = """
import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV
from sksae import TopKSAE
from sksae.datasets import make_superposition
from sksae.model_selection import SparsityPathCV

X, _, _ = make_superposition(300, 8, 16, random_state=0)
sae = TopKSAE(16, max_iter=2, random_state=0)

def scores(n_jobs):
    grid = GridSearchCV(sae, {"k": [1, 3]}, cv=2, n_jobs=n_jobs).fit(X)
    path = SparsityPathCV(sae, [1, 3], cv=2, n_jobs=n_jobs).fit(X)
    return [
        grid.cv_results_["mean_test_score"],
        path.cv_results_["mean_test_explained_variance"],
        grid.best_estimator_.components_,
        path.best_estimator_.components_,
    ]

def check(backend, **options):
    with joblib.parallel_config(backend, **options):
        there = scores(n_jobs=2)
    for here, value in zip(scores(n_jobs=1), there, strict=True):
        np.testing.assert_allclose(value, here, rtol=1e-6, atol=1e-9)
"""
CLUSTERS = {
    "distributed": """
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        check("dask", scatter=[X])
""",
    "ray": """
import ray
from ray.util.joblib import register_ray

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    register_ray()
    check("ray", ray_remote_args={"num_cpus": 1})
    ray.shutdown()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("package", CLUSTERS)
def test_searches_have_the_results_of_one_process(package, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    # A file: workers import what they run from the script.
    script = tmp_path / "search.py"
    script.write_text(SEARCH + CLUSTERS[package], encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
