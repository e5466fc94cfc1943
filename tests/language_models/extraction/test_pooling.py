import numpy as np
import pytest
import torch

from sksae.language_models.extraction._forward_passes import POOLINGS, pool_text, pool_window
from tests.cases import each_case

HIDDEN = torch.tensor([[[1.0], [5], [-2], [99]], [[-4], [-3], [99], [99]]])
KEEP = torch.tensor([[True, True, True, False], [True, True, False, False]])


@each_case(
    "pooling, windows, text",
    [
        ("mean", [4, -7], [-0.6]),  # sums of windows, mean of the text
        ("max", [5, -3], [5]),
        ("first", [1, -4], [1]),
        ("last", [-2, -3], [-3]),
    ],
)
def test_known_values(pooling, windows, text):
    pooled = pool_window(HIDDEN, KEEP, pooling)
    assert pooled[:, 0].tolist() == windows
    rows = pool_text(pooled.numpy(), np.array([3, 2]), np.array([0]), pooling)
    np.testing.assert_allclose(rows[:, 0], text, rtol=1e-6)
    alone = pool_text(pooled.numpy(), np.array([3, 2]), np.array([0, 1]), pooling)
    counts = [3, 2] if pooling == "mean" else [1, 1]
    np.testing.assert_allclose(alone[:, 0], np.array(windows) / counts, rtol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_left_out_tokens_have_no_influence(pooling):
    other = HIDDEN.clone()
    other[~KEEP] = torch.nan
    torch.testing.assert_close(
        pool_window(other, KEEP, pooling), pool_window(HIDDEN, KEEP, pooling)
    )
