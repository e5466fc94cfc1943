import numpy as np
import pytest

from sksae.interpret import FeatureAtlas
from tests.cases import each_case


def test_quantiles_are_parts_from_strong_to_weak():
    feature = FeatureAtlas().fit(np.arange(10.0)[:, None]).feature(0)
    (whole,) = feature.quantiles(1)
    assert (whole.low, whole.high, whole.share, len(whole.examples)) == (1, 9, 1, 9)
    parts = feature.quantiles(3)
    assert [(part.low, part.high) for part in parts] == [(7, 9), (4, 6), (1, 3)]


@each_case("n_quantiles", [0, -1, 1.5, True, None])
def test_there_is_at_least_one_part(n_quantiles):
    feature = FeatureAtlas().fit([[1.0], [2.0]]).feature(0)
    with pytest.raises(ValueError, match="n_quantiles must be an int >= 1"):
        feature.quantiles(n_quantiles)
