"""Skewed codes with targets of all types that have nothing to do with them, or something."""

import numpy as np

N = 300
AUTHORS = np.repeat(np.arange(60), 5)


def skewed_codes(rng, n_features=400, author=None, length=None, n=N):
    """Codes that fire in 2 % to 50 % of the documents, with the heavy tail of a lognormal."""
    rate = np.exp(rng.uniform(np.log(0.02), np.log(0.5), n_features))
    logit = np.log(rate / (1 - rate)) + np.zeros((n, 1))
    if author is not None:
        logit += 1.5 * rng.normal(size=(author.max() + 1, n_features))[author]
    if length is not None:
        logit += length[:, None] * rng.uniform(0, 1.5, n_features)
    fires = rng.random((n, n_features)) < 1 / (1 + np.exp(-logit))
    return fires * np.exp(1.5 * rng.normal(size=fires.shape))


def _independent(draw, **options):
    return lambda rng: (skewed_codes(rng), draw(rng), options, {})


def _of_authors(target, **options):
    """Codes and targets depend on the author, but not on each other."""

    def draw(rng):
        mood = rng.normal(size=60)[AUTHORS] + rng.normal(size=N)
        X = skewed_codes(rng, author=AUTHORS)
        return X, target(mood), {"pooling": None, **options}, {"groups": AUTHORS}

    return draw


def _of_length(target, **options):
    """Codes and targets depend on the length, but not on each other."""

    def draw(rng):
        length = rng.normal(size=N)
        number = np.exp(length) + rng.standard_t(3, size=N)
        X = skewed_codes(rng, length=length)
        return X, target(number), options, {"covariates": np.exp(length)}

    return draw


def _constant_within(rng):
    y = rng.standard_cauchy(60)[AUTHORS]
    return skewed_codes(rng, author=AUTHORS), y, {"pooling": None}, {"groups": AUTHORS}


def _pairs(**options):
    def draw(rng):
        pair = np.repeat(np.arange(N // 2), 2)
        y = np.tile([0, 1], N // 2)
        X = skewed_codes(rng, author=pair)
        return X, y, {"pooling": None, **options}, {"groups": pair}

    return draw


def number(values):
    return values


def tenth(values):
    return values > np.quantile(values, 0.9)


def four(values):
    return np.digitize(values, np.quantile(values, [0.1, 0.5, 0.9]))


def of_a_square(rng, n=5000, n_features=300):
    """A class of 10 % and codes that depend, steeply, on the square of one covariate."""
    covariate = rng.normal(size=n)
    y = tenth(covariate**2 + 0.5 * rng.standard_t(3, size=n))
    return skewed_codes(rng, n_features, length=covariate**2 - 1, n=n), y, np.exp(covariate)


NULLS = {
    "heavy tails": _independent(lambda rng: rng.standard_cauchy(N)),
    "heavy tails, linear": _independent(lambda rng: rng.standard_cauchy(N), statistic="linear"),
    "skewed, linear": _independent(lambda rng: np.exp(2 * rng.normal(size=N)), statistic="linear"),
    "counts": _independent(lambda rng: rng.negative_binomial(0.3, 0.1, N), target_type="counts"),
    "ratings": _independent(
        lambda rng: rng.choice(5, N, p=[0.6, 0.1, 0.1, 0.1, 0.1]), target_type="ordinal"
    ),
    "classes of 10 %": _independent(lambda rng: rng.choice(10, N)),
    "classes of 10 %, means": _independent(lambda rng: rng.choice(10, N), statistic="welch_t"),
    "classes of 10 %, ranks": _independent(lambda rng: rng.choice(10, N), statistic="auroc"),
    "10 % against 90 %": _independent(lambda rng: rng.random(N) < 0.1, statistic="auroc"),
    "authors": _of_authors(number),
    "authors, linear": _of_authors(number, statistic="linear"),
    "authors, 10 %": _of_authors(tenth),
    "authors, 10 %, means": _of_authors(tenth, statistic="welch_t"),
    "authors, 10 %, ranks": _of_authors(tenth, statistic="auroc"),
    "authors, classes": _of_authors(four),
    "a target of authors": _constant_within,
    "pairs": _pairs(),
    "pairs, odds": _pairs(statistic="log_odds"),
    "pairs, means": _pairs(statistic="welch_t"),
    "length": _of_length(number),
    "length, linear": _of_length(number, statistic="linear"),
    "length, 10 %": _of_length(tenth),
    "length, 10 %, ranks": _of_length(tenth, statistic="auroc"),
    "length, 10 %, means": _of_length(tenth, statistic="welch_t"),
    "length, classes": _of_length(four),
}
"""Draws of codes, target, options and what `fit` takes besides, none with an association."""
