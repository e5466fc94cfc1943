"""Parts of ``python -m sksae``: texts of a file, and statements about what they are rated by."""

from sksae.command_line._options import (
    ESTIMATORS,
    check_options,
    make_autoencoder,
    make_parser,
)
from sksae.command_line._tested_statements import (
    AskedStatements,
    kind_of_target,
    split_table,
    statement_cells,
    statements_of_file,
    tested_statements,
)
from sksae.command_line._text_files import (
    TextTable,
    read_file,
    read_text_table,
    read_texts,
    split_pieces,
)

__all__ = [
    "ESTIMATORS",
    "AskedStatements",
    "TextTable",
    "check_options",
    "kind_of_target",
    "make_autoencoder",
    "make_parser",
    "read_file",
    "read_text_table",
    "read_texts",
    "split_pieces",
    "split_table",
    "statement_cells",
    "statements_of_file",
    "tested_statements",
]


def __dir__():
    return __all__
