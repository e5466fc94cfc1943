"""Optional packages, each installed by an extra of sksae."""

import importlib

_EXTRAS = {
    "fsspec": "remote",
    "matplotlib": "plot",
    "pandas": "pandas",
    "pyarrow": "parquet",
}


def needed(package, caller):
    """Import an optional package, or raise an error that names its extra.

    Parameters
    ----------
    package : str
        The package, one of those with an extra, or a module of it.
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
        name = package.partition(".")[0]
        raise ImportError(
            f"{caller} needs {name}, which is not installed: pip install {name}, or "
            f"'sksae[{_EXTRAS[name]}]'"
        ) from error
