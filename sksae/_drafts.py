"""Fits that change an estimator in one step, or not at all."""

from functools import wraps


def on_a_draft(fit):
    """Decorate a `fit` to work on a copy of the estimator, which takes over its state at the end.

    A fit that fails or is interrupted leaves the estimator as it was, and there is no moment at
    which some attributes are of the old fit and some of the new, in another thread either.
    """

    @wraps(fit)
    def run(self, *args, **options):
        draft = object.__new__(type(self))
        vars(draft).update(vars(self))
        fit(draft, *args, **options)
        self.__dict__ = vars(draft)
        return self

    return run
