"""Optional packages, each installed by an extra of sksae."""

import importlib

_EXTRAS = {"fsspec": "remote", "matplotlib": "plot", "pandas": "pandas"}


def needed(package, caller):
    """Import an optional package, or raise an error that names its extra.

    Parameters
    ----------
    package : {"fsspec", "matplotlib", "pandas"}
        The package.
    caller : str
        The public function that needs it.

    Returns
    -------
    module : module
        The package.

    Raises
    ------
    ImportError
        If it is not installed.

    Examples
    --------
    >>> from sksae._optional import needed
    >>> needed("pandas", "TokenTable.to_frame").__name__
    'pandas'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{caller} needs {package}, which is not installed: pip install {package}, or "
            f"'sksae[{_EXTRAS[package]}]'"
        ) from error
