"""Table of an attribution, one line per node."""

from dataclasses import dataclass

import numpy as np

from sksae._signs import SHOWN, edges_visible, visible
from sksae.language_models.extraction import ColumnTable


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(ColumnTable):
    """Contributions of features at each position to a metric, one line per node.

    `attribute` makes it; the strongest effects come first. Indexing with a slice, a mask or an
    array of line numbers gives the table of those lines; its `repr` shows the first ten.

    Parameters
    ----------
    site : ndarray of shape (n_nodes,), dtype=object
        Where in the model, as in ``"3.resid_post"``.
    position : ndarray of shape (n_nodes,)
        Index of the token in the prompt as the model reads it, special tokens included; -1 for
        a sum over positions.
    token : ndarray of shape (n_nodes,), dtype=object
        The characters of that token.
    feature : ndarray of shape (n_nodes,)
        Column of the codes; -1 for the error node, what the autoencoder leaves out there.
    activation : ndarray of shape (n_nodes,)
        The code in the prompt; of an error node, the Euclidean norm of the error.
    baseline_activation : ndarray of shape (n_nodes,)
        The same in the baseline.
    effect : ndarray of shape (n_nodes,)
        What the node contributes, in units of the metric: how much the metric falls when the node
        is put at its baseline, estimated from gradients.
    exact : ndarray of shape (n_nodes,)
        The same, measured with that node alone at its baseline; NaN where it was not.
    name : ndarray of shape (n_nodes,), dtype=object
        The name of the feature, ``""`` if it has none and ``"error"`` for error nodes.
    total : dict of str to float
        For each site, how much the metric falls when all of it is put at its baseline, measured.
    completeness : dict of str to float
        For each site, the sum of the effects of all its nodes over `total`; 1 is ideal.
    clean : float
        The metric of the prompt as it is.
    metric : str
        What the metric is.

    See Also
    --------
    attribute : Makes it.
    FeatureCircuit : The strongest nodes and the effects of one on the other.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import Attribution
    >>> table = Attribution(
    ...     site=np.array(["0.mlp_out"] * 2, dtype=object), position=np.array([3, 3]),
    ...     token=np.array([" a"] * 2, dtype=object), feature=np.array([7, -1]),
    ...     activation=np.array([2.0, 1.0]), baseline_activation=np.zeros(2),
    ...     effect=np.array([0.5, 0.25]), exact=np.array([0.625, np.nan]),
    ...     name=np.array(["articles", "error"], dtype=object),
    ...     total={"0.mlp_out": 0.75}, completeness={"0.mlp_out": 1.0}, clean=-1.0,
    ...     metric="log-probability of 'b'",
    ... )
    >>> table
    Attribution: 2 nodes, log-probability of 'b' = -1
    0.mlp_out: metric -0.75 at the baseline, completeness 1.000
    effect  exact       site  position  token  feature  activation  name
     +0.5  +0.625  0.mlp_out         3     ␣a        7           2  articles
    +0.25          0.mlp_out         3     ␣a    error           1  error
    >>> table[table.feature >= 0].effect.tolist()
    [0.5]
    """

    site: np.ndarray
    position: np.ndarray
    token: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    baseline_activation: np.ndarray
    effect: np.ndarray
    exact: np.ndarray
    name: np.ndarray
    total: dict
    completeness: dict
    clean: float
    metric: str

    def __len__(self):
        return len(self.site)

    def _shown(self):
        lines = [f"Attribution: {len(self)} nodes, {self.metric} = {self.clean:.4g}"]
        for site, total in self.total.items():
            share = f"completeness {self.completeness[site]:.3f}"
            lines.append(f"{site}: metric {-total:+.4g} at the baseline, {share}")
        return lines, _HEADING, [self._line(i) for i in range(min(len(self), SHOWN))]

    def to_frame(self):
        """Return the columns as a data frame.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_nodes, 9)
            The table without `total`, `completeness`, `clean` and `metric`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self._frame()

    def _line(self, i):
        """Return the cells of one line of the `repr`."""
        everywhere = self.position[i] < 0  # a sum over positions
        position, token = ("all", "") if everywhere else (str(self.position[i]), self.token[i])
        return (
            f"{self.effect[i]:+.4g}",
            "" if np.isnan(self.exact[i]) else f"{self.exact[i]:+.4g}",
            self.site[i],
            position,
            edges_visible(token),
            "error" if self.feature[i] < 0 else str(self.feature[i]),
            f"{self.activation[i]:.4g}",
            visible(str(self.name[i])),
        )


_HEADING = ("effect", "exact", "site", "position", "token", "feature", "activation", "name")
