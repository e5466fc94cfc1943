"""scikit-learn's own checks over every exported estimator, with no failure expected."""

import pytest
import torch
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sksae import BatchTopKSAE, Crosscoder, SparseAutoencoder
from tests.cases import each_case
from tests.estimators import (
    FAMILY,
    OTHERS,
    PREDICTORS,
    REPRESENTATIVES,
    dummies,
    instances,
    name_of,
    predictors,
    unfitted,
)

# Run by scikit-learn on its own estimators, but not among those of parametrize_with_checks.
BEYOND = [
    estimator_checks.check_estimators_partial_fit_n_features,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
]
# parametrize_with_checks has no rows for what takes texts, and would only warn.
WITHOUT_DATA = [
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_mixin_order,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_get_params_invariance,
]
# scikit-learn shortens the fit of what has a max_iter of its own; a transcoder's is nested.
CHEAP = [
    *(cls(max_iter=20) for cls in REPRESENTATIVES),
    *predictors(max_iter=3, random_state=0)[:1],
    Crosscoder(BatchTopKSAE(max_iter=3, random_state=0)),
]
OTHER = [
    estimator
    for estimator in [
        *instances(max_iter=20),
        *dummies(max_iter=20),
        *predictors(max_iter=3, random_state=0),
        Crosscoder(SparseAutoencoder(max_iter=20, random_state=0)),
    ]
    if name_of(estimator) not in map(name_of, CHEAP)
]
TRUE_DEFAULTS = [cls() for cls in REPRESENTATIVES]
# Fitted on a frame, asked with an array, and the reverse: the checks do this to PCA as well.
NAMELESS = "ignore:X (does not have valid|has) feature names:UserWarning"


@pytest.fixture(autouse=True)
def halves(monkeypatch):
    """Give a `Crosscoder` two blocks, whatever the width of the rows that scikit-learn makes."""

    def halved(names, n_features):
        widths = {"first": n_features // 2, "second": n_features - n_features // 2}
        return {name: width for name, width in widths.items() if width}

    monkeypatch.setattr("sksae.autoencoders._crosscoder._named_blocks", halved)


def run(estimator, check):
    # scikit-learn asks only whether torch was built for CUDA.
    if "'cuda'" in repr(getattr(check, "keywords", {})) and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if check.func.__name__ == "check_regressors_train" and type(estimator) in PREDICTORS:
        # The check asks for a good fit.
        estimator.set_params(estimator__max_iter=100)
    check(estimator)


@parametrize_with_checks(CHEAP)
def test_scikit_learn_checks(estimator, check):
    run(estimator, check)


@pytest.mark.slow
@parametrize_with_checks(OTHER)
def test_scikit_learn_checks_of_other_classes_and_options(estimator, check):
    run(estimator, check)


@pytest.mark.filterwarnings(NAMELESS)
@pytest.mark.parametrize("check", BEYOND, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", CHEAP, ids=name_of)
def test_checks_that_scikit_learn_runs_on_itself(estimator, check):
    check(type(estimator).__name__, shortened(estimator))


@pytest.mark.slow
@pytest.mark.filterwarnings(NAMELESS)
@pytest.mark.parametrize("check", BEYOND, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", OTHER, ids=name_of)
def test_checks_that_scikit_learn_runs_on_itself_of_others(estimator, check):
    check(type(estimator).__name__, shortened(estimator))


def shortened(estimator):
    """A new estimator of a short fit: these checks are about names and containers."""
    estimator = clone(estimator)
    getattr(estimator, "estimator", estimator).set_params(max_iter=2)
    return estimator


@pytest.mark.parametrize("cls", OTHERS)
@each_case("check", WITHOUT_DATA)
def test_contract_of_what_takes_texts(cls, check):
    check(cls.__name__, unfitted(cls))


@pytest.mark.slow
@parametrize_with_checks(TRUE_DEFAULTS)
def test_scikit_learn_checks_at_the_true_defaults(estimator, check):
    if check.func.__name__ == "check_sample_weight_equivalence_on_dense_data":
        # The steps of the full 2000 amplify rounding beyond the check's 1e-7: on these 15 rows,
        # the same rows in reverse order make as much of a difference as weights instead of copies.
        estimator.set_params(max_iter=100)
    check(estimator)


def test_every_estimator_is_covered():
    assert FAMILY
    names = {type(estimator) for estimator in [*CHEAP, *OTHER]}
    assert names == set(FAMILY)
