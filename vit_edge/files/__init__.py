"""Files in and out: read within bounds, written whole or not at all.

Every refusal is an OSError whose `strerror` is a clause such as "it is no regular file"; the caller knows
what the file is for and turns it into its own error. Nothing but regular files is ever opened for reading: a
named pipe would wait for ever, and to open a device may be to act on it.

What a killed process leaves behind is swept by the next run: a draft is locked as long as its owner lives,
and the system drops the lock with the process.
"""

from vit_edge.files.read import AnyPath, open_regular, read_descriptor, read_file, read_text
from vit_edge.files.replace import exchange, put_in_place, recover
from vit_edge.files.write import draft_beside, scratch_folder, sweep, write_file

__all__ = [
    "AnyPath",
    "draft_beside",
    "exchange",
    "open_regular",
    "put_in_place",
    "read_descriptor",
    "read_file",
    "read_text",
    "recover",
    "scratch_folder",
    "sweep",
    "write_file",
]
