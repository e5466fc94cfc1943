"""Folders that are whole or not there."""

from contextlib import contextmanager

from sksae._files import BEFORE, working_place

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with working_place(folder.parent) as place:
        part, old = place / "new", place / BEFORE / folder.name
        for new in (part, old.parent):
            new.mkdir()
        yield part
        if folder.exists():
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
