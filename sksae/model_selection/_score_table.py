"""A table of scores: columns as attributes, and as a data frame."""

from sklearn.utils import Bunch

from sksae._optional import needed


class ScoreTable(Bunch):
    """Columns of equal length, each an attribute and an entry.

    What :func:`compare` and :func:`sparse_probing` return.

    Parameters
    ----------
    **kwargs : ndarray of shape (n_rows,)
        Columns by name.

    See Also
    --------
    compare : Returns one row per estimator.
    sparse_probing : Returns one row per probe.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.model_selection import ScoreTable
    >>> table = ScoreTable(probe=np.array(["latents"]), k=np.array([2]))
    >>> table.k
    array([2])
    >>> table.to_frame()
         probe  k
    0  latents  2
    """

    def to_frame(self):
        """Return the table as a data frame.

        Returns
        -------
        frame : :class:`pandas.DataFrame`
            One row per row of the table.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return needed("pandas", "ScoreTable.to_frame").DataFrame(dict(self))
