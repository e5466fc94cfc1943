"""A line that says how far the passes are, redrawn as they go."""

import sys
import time


class Progress:
    """Counts tokens and texts, and shows them if asked to.

    Parameters
    ----------
    verbose : int
        Whether to show anything.
    n_tokens : int, default=None
        How many tokens there are, if that is known; then a bar is shown.
    n_texts : int, default=None
        How many texts there are, if that is known.
    done : int, default=0
        Texts that were done before.
    """

    def __init__(self, verbose, n_tokens=None, n_texts=None, done=0):
        self.verbose = verbose
        self.n_tokens, self.n_texts = n_tokens, n_texts
        self.tokens, self.texts = 0, done
        self._started = time.perf_counter()
        self._open = False

    def add(self, tokens, texts=0):
        """Count some more."""
        self.tokens += tokens
        self.texts += texts
        if not self.verbose:
            return
        rate = self.tokens / max(time.perf_counter() - self._started, 1e-9)
        self._write(f"\r[ActivationExtractor] {self._counts()} tokens, {rate:,.0f}/s")
        if self.tokens == self.n_tokens:
            self.close()

    def close(self):
        """End the line."""
        if self._open:
            self._write("\n")
            self._open = False

    def _counts(self):
        if self.n_tokens:
            bar = "#" * (20 * self.tokens // self.n_tokens)
            return f"[{bar:<20}] {self.tokens:,}/{self.n_tokens:,}"
        total = "" if self.n_texts is None else f"/{self.n_texts:,}"
        return f"{self.texts:,}{total} texts, {self.tokens:,}"

    def _write(self, text):
        sys.stdout.write(text)
        sys.stdout.flush()
        self._open = True
