"""The only import of scikit-learn's callbacks, which are still experimental in 1.9."""

from sklearn.callback import CallbackSupportMixin, with_callbacks

__all__ = [
    "CallbackSupportMixin",
    "GivenTheFit",
    "asked_for_steps",
    "asked_to_watch",
    "step_context",
    "with_callbacks",
]


class GivenTheFit:
    """Callback to which a fit hands itself over; in scikit-learn's protocol it does nothing."""

    def setup(self, estimator, context):
        """Do nothing: a fit that finds this callback hands itself over.

        Parameters
        ----------
        estimator : BaseSAE
            The estimator.
        context : sklearn.callback.CallbackContext
            The task.
        """

    teardown = on_fit_task_begin = on_fit_task_end = setup


def asked_for_steps(estimator):
    """Return the callbacks of an estimator that are to be called at every optimiser step."""
    callbacks = getattr(estimator, "_skl_callbacks", [])
    return [callback for callback in callbacks if getattr(callback, "every_step", False)]


def asked_to_watch(estimator):
    """Return the callbacks of an estimator that a fit hands itself over to."""
    callbacks = getattr(estimator, "_skl_callbacks", [])
    return [callback for callback in callbacks if hasattr(callback, "watch")]


def step_context(task, callbacks):
    """Return the context of one optimiser step of a pass, for some of the callbacks alone."""
    context = task.subcontext(task_name="step")
    context._callbacks = callbacks
    return context
