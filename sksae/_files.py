"""Files that are whole or not there."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """Give a temporary path beside a file, and put it in place when all went well.

    Whoever reads the file meanwhile finds what was there before; after an error the temporary file
    is gone.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made if needed.

    Yields
    ------
    part : Path
        Where to write.

    Raises
    ------
    OSError
        If the folder or the file cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sksae._files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "note.txt") as part:
    ...         _ = part.write_text("whole")
    ...     (Path(folder) / "note.txt").read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())  # or the name could outlive a power cut, and not the content
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
