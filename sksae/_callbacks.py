"""The only import of scikit-learn's callbacks, which are still experimental in 1.9."""

from sklearn.callback import CallbackSupportMixin, with_callbacks

__all__ = ["CallbackSupportMixin", "with_callbacks"]
