"""The only import of scikit-learn's callbacks, which are still experimental in 1.9."""

from sklearn.callback import CallbackSupportMixin, with_callbacks

__all__ = [
    "CallbackSupportMixin",
    "asked_for_steps",
    "asked_to_watch",
    "step_context",
    "with_callbacks",
]


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
