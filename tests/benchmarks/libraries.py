"""The peers, each behind the methods of a `Library`: trained by its own code with its defaults."""

import contextlib
import importlib
import importlib.util
import io
import sys
from functools import partial
from unittest.mock import MagicMock

import torch

from tests.benchmarks.language_model_libraries import (
    AdamSparsify,
    DictionaryLearning,
    SAELens,
    SparseSAELens,
    Sparsify,
)
from tests.benchmarks.task import Library, place


class Overcomplete(Library):
    """overcomplete: its train_sae on one batch, with the criterion that its manual shows."""

    distribution, module = "overcomplete", "overcomplete.sae"
    unused = ("PIL", "torchvision", "cv2", "skimage", "matplotlib", "matplotlib.pyplot")
    unused = (*unused, "matplotlib.colors")
    variants = ("topk", "batchtopk", "l1", "jumprelu")

    def __init__(self, task):
        from overcomplete import sae
        from overcomplete.sae.losses import mse_l1

        rows, d, m, k = task.shape
        self.sae = {
            "topk": partial(sae.TopKSAE, top_k=k),
            "batchtopk": partial(sae.BatchTopKSAE, top_k=k * rows),
            "l1": sae.SAE,
            "jumprelu": sae.JumpSAE,
        }[task.variant](d, m)
        if task.placed is not None:
            self._place(task.placed)
        criteria = {"l1": partial(mse_l1, penalty=1 / (rows * d)), "jumprelu": self._mse_l0}
        self.criterion = criteria.get(task.variant, self._mse)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=task.rate)
        self._train = partial(sae.train_sae, nb_epochs=1, monitoring=0)

    def _place(self, placed):
        """Start from placed weights, the bias raised by a threshold that is kept as a logarithm."""
        threshold = self.sae.thresholds[0].exp().item() if hasattr(self.sae, "thresholds") else 0.0
        placed = placed._replace(bias=placed.bias + threshold)
        matrices = ("encoder.final_block.0.weight", "dictionary._weights")
        place(placed, self.sae, matrices, ("encoder.final_block.0.bias",))

    @staticmethod
    def _mse(x, x_hat, pre_codes, codes, dictionary):
        return (x - x_hat).square().mean()

    def _mse_l0(self, x, x_hat, pre_codes, codes, dictionary):
        from overcomplete.sae import heaviside

        sae = self.sae
        active = heaviside(pre_codes, sae.thresholds.exp(), sae.kernel_fn, sae.bandwidth)
        return (x - x_hat).square().mean() + active.sum(1).mean() / x.shape[1]

    def step(self, x):
        self._train(self.sae, [x], self.criterion, self.optimizer)

    @torch.no_grad()
    def encode(self, x):
        self.sae.eval()
        return self.sae.encode(x)[1]

    @torch.no_grad()
    def reconstruct(self, x):
        return self.sae.decode(self.encode(x))


class ScikitLearn(Library):
    """scikit-learn's MiniBatchDictionaryLearning: ``partial_fit`` and ``transform``."""

    distribution, module = "scikit-learn", "sklearn.decomposition"
    variants = ("topk", "l1")
    rows_at_most = 64

    def __init__(self, task):
        from sklearn.decomposition import MiniBatchDictionaryLearning

        _, d, m, k = task.shape
        if task.placed is None:
            directions = torch.nn.functional.normalize(torch.randn(m, d))
        else:
            directions = task.placed.directions
        codes = {"transform_algorithm": "omp", "transform_n_nonzero_coefs": k}
        self.model = MiniBatchDictionaryLearning(
            m,
            dict_init=directions.numpy(),
            **(codes if task.is_top_k else {"transform_algorithm": "lasso_lars"}),
        )

    def step(self, x):
        self.model.partial_fit(x.numpy())

    def encode(self, x):
        return self.model.transform(x.numpy())

    def reconstruct(self, x):
        return torch.from_numpy(self.encode(x) @ self.model.components_).to(x)


LIBRARIES = {
    "sae-lens": SAELens,
    "sae-lens-sparse": SparseSAELens,
    "dictionary-learning": DictionaryLearning,
    "sparsify": Sparsify,
    "sparsify-adam": AdamSparsify,
    "overcomplete": Overcomplete,
    "scikit-learn": ScikitLearn,
}


def installed(names=tuple(LIBRARIES)):
    """Return those of the named libraries that can be imported; say on stderr which cannot."""
    found = {}
    for name in names:
        library = LIBRARIES[name]
        try:
            with stand_ins(library.unused), contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module(library.module)
        except ImportError as error:
            print(
                f"{name} is skipped: {error} (pip install {library.distribution})", file=sys.stderr
            )
        else:
            found[name] = library
    return found


@contextlib.contextmanager
def stand_ins(names):
    """Put empty modules in place of those that are not installed, while a peer is imported."""
    absent = [n for n in names if importlib.util.find_spec(n.partition(".")[0]) is None]
    sys.modules.update((name, MagicMock()) for name in absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
