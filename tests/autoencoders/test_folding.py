import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.objectives import Objective, Weight
from sksae.training import Batches, Normalization
from tests.autoencoders.fixture_a import assert_close, tensor
from tests.cases import each_case, tries

X = tensor([[3, 1], [1, 3], [2, 5], [6, 3]])


def weights():
    return {
        "components": tensor([[2, 0], [0, 0.5], [0.6, 0.8]]),
        "encoder_coef": tensor([[0.9, 0.1], [-0.2, 1.1], [0.5, 0.5]]),
        "encoder_intercept": tensor([0.1, -0.2, 0.05]),
        "intercept": tensor([0.1, 0.2]),
    }


def thresholded(pre_bias=True):
    objective = Objective()
    objective.weights = {"threshold": Weight("m", unit="code")}
    objective.pre_bias = pre_bias
    return objective


def normalization(method="rms"):
    return Normalization.from_rows(Batches(X, None, 4, torch.float64, "cpu"), method)


@each_case(
    "method, scale", [("rms", 0.6030226892), ("anthropic", 0.3071385370), ("unit", 0.2062842493)]
)
def test_normalization(method, scale):
    mean, measured, *_ = normalization(method)
    assert_close(measured, scale)
    assert_close(mean, [3, 3] if method == "rms" else [0, 0])


def test_no_normalization():
    mean, scale, *_ = normalization(None)
    assert scale == 1.0
    assert_close(mean, [0, 0])


def test_constant_rows_have_scale_one():
    rows = Batches(torch.ones(5, 3, dtype=torch.float64), None, 4, torch.float64, "cpu")
    assert Normalization.from_rows(rows, "rms").scale == 1.0


def test_fold():
    unit, w = normalization(), {**weights(), "threshold": tensor([0.3, 0.2, 0.4])}
    folded = thresholded().fold(w, unit)
    assert_close(folded["components"], [[1, 0], [0, 1], [0.6, 0.8]])
    assert_close(folded["encoder_coef"], [[1.8, 0.2], [-0.1, 0.55], [0.5, 0.5]])
    intercept = [-6.0331662479, -1.6816624790, -3.1658312395]
    assert_close(folded["encoder_intercept"], intercept)
    assert_close(folded["intercept"], [3.1658312395, 3.3316624790])
    threshold = folded["threshold"]
    assert_close(threshold, [0.9949874371, 0.1658312395, 0.6633249581])
    z = X @ folded["encoder_coef"].T + folded["encoder_intercept"]
    codes = torch.where(z > threshold, z, 0.0)
    expected = [[0, 0, 0], [0, 0, 0], [0, 0.8683375210, 0], [5.3668337521, 0, 1.3341687605]]
    assert_close(codes, expected)
    reconstruction = [
        [3.1658312395, 3.3316624790],
        [3.1658312395, 3.3316624790],
        [3.1658312395, 4.2],
        [9.3331662479, 4.3989974874],
    ]
    assert_close(codes @ folded["components"] + folded["intercept"], reconstruction)


def test_a_zero_row_is_left_and_silenced():
    w = weights()
    w["components"][1] = 0
    folded = thresholded().fold(w, normalization())
    assert_close(folded["components"][1], [0, 0])
    assert not folded["encoder_coef"][1].any()
    assert folded["encoder_intercept"][1] == 0


@settings(max_examples=tries(50), deadline=None)
@given(seed=st.integers(0, 10**6), pre_bias=st.booleans(), scale=st.floats(1e-2, 1e2))
def test_fold_and_unfold_are_the_same_function(seed, pre_bias, scale):
    """Reconstruction in raw units is the same before the fold, after it, and after the way back."""
    rng = np.random.default_rng(seed)
    d, m = int(rng.integers(1, 6)), int(rng.integers(1, 9))
    unit = Normalization(torch.from_numpy(rng.normal(size=d)), scale)
    w = {
        "components": rng.normal(size=(m, d)),
        "encoder_coef": rng.normal(size=(m, d)),
        "encoder_intercept": rng.normal(size=m),
        "intercept": rng.normal(size=d),
    }
    w = {name: torch.from_numpy(value) for name, value in w.items()}
    X = torch.from_numpy(rng.normal(size=(20, d)))

    x = (X - unit.mean) * unit.scale
    z = (x - w["intercept"] * pre_bias) @ w["encoder_coef"].T + w["encoder_intercept"]
    expected = (torch.relu(z) @ w["components"] + w["intercept"]) / unit.scale + unit.mean

    objective = thresholded(pre_bias)
    folded = objective.fold(w, unit)
    z = X @ folded["encoder_coef"].T + folded["encoder_intercept"]
    actual = torch.relu(z) @ folded["components"] + folded["intercept"]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)

    again = objective.fold(objective.unfold(folded, unit), unit)
    for name, value in folded.items():
        torch.testing.assert_close(again[name], value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(folded["components"].norm(dim=1), torch.ones(m).double())


def test_blocks_of_columns_have_units_of_their_own():
    """Two sites side by side, as a crosscoder reads and reconstructs them."""
    rng = np.random.default_rng(0)
    blocks = [rng.normal(3, 2, size=(50, 2)), rng.normal(-1, 100, size=(50, 3))]
    rows = Batches(blocks, None, 50, torch.float64, "cpu")
    assert rows.blocks == [slice(0, 2), slice(2, 5)]
    assert rows.inputs == rows.targets == slice(0, 5)
    unit = Normalization.from_rows(rows, "rms")
    x, _ = rows.normalize(unit).take(torch.arange(50))
    for columns in rows.blocks:
        width = columns.stop - columns.start
        assert float(x[:, columns].square().sum(1).mean()) == pytest.approx(width)

    objective = thresholded()
    objective.blocks = {"first": 2, "second": 3}
    w = {"components": (7, 5), "encoder_coef": (7, 5), "encoder_intercept": 7, "intercept": 5}
    w = {name: torch.from_numpy(rng.normal(size=shape)) for name, shape in w.items()}
    w["threshold"] = torch.from_numpy(rng.exponential(size=7))
    z = (x - w["intercept"]) @ w["encoder_coef"].T + w["encoder_intercept"]
    codes = torch.where(z > w["threshold"], z, 0.0)
    expected = (codes @ w["components"] + w["intercept"]) / unit.scale + unit.mean

    folded = objective.fold(w, unit)
    X = torch.from_numpy(np.hstack(blocks))
    z = X @ folded["encoder_coef"].T + folded["encoder_intercept"]
    codes = torch.where(z > folded["threshold"], z, 0.0)
    assert 0 < int((codes > 0).sum()) < codes.numel()
    actual = codes @ folded["components"] + folded["intercept"]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    # Norms are summed over blocks, in their units relative to the mean square of all columns'.
    relative = folded["components"] * unit.scale * unit.scale.pow(-2).mean().sqrt()
    norms = relative[:, :2].norm(dim=1) + relative[:, 2:].norm(dim=1)
    assert_close(norms, torch.ones(7).double(), atol=1e-12)
    again = objective.fold(objective.unfold(folded, unit), unit)
    for name, value in folded.items():
        torch.testing.assert_close(again[name], value, rtol=1e-9, atol=1e-9)
