"""Folders that are whole or not there."""

import os
import shutil
from contextlib import contextmanager

COMPLETE = "source.jsonl"
"""Every folder of a source has this file; only such folders are ever replaced."""


@contextmanager
def assembling(folder, *, overwrite):
    """Give an empty folder beside `folder`, and put it in its place when all went well."""
    if folder.exists():
        if not overwrite:
            raise FileExistsError(f"{folder} exists. Take overwrite=True to replace it.")
        if not (folder / COMPLETE).is_file():
            raise FileExistsError(
                f"{folder} is not a folder that Neuronpedia's files were written to, as it has no "
                f"{COMPLETE}: it is not replaced. Take another path."
            )
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
