"""Files: whole or not there when written, checked when read."""

from sksae._files._guarded_reading import (
    damage_named,
    most_unpacked,
    opened_npz,
    read_json,
    regular,
    whole_members,
)
from sksae._files._writing import (
    BEFORE,
    append_whole,
    as_path,
    digest_of,
    plain_json,
    remove_abandoned,
    replacing,
    sync,
    sync_folder,
    working_place,
    write_safetensors,
    write_text,
)

__all__ = [
    "BEFORE",
    "append_whole",
    "as_path",
    "damage_named",
    "digest_of",
    "most_unpacked",
    "opened_npz",
    "plain_json",
    "read_json",
    "regular",
    "remove_abandoned",
    "replacing",
    "sync",
    "sync_folder",
    "whole_members",
    "working_place",
    "write_safetensors",
    "write_text",
]
