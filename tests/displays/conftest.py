"""A canvas that needs no screen, and checks of where labels are drawn."""

import pytest


@pytest.fixture(autouse=True)
def _figures():
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == settings
    matplotlib.use(before)
