"""Fits that change an estimator in one step, or not at all."""

from functools import wraps


def on_a_draft(fit):
    """Decorate a method that fits: it works on a draft, whose state is the estimator's at the end.

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
