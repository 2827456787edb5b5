"""The adapter API: what an adapter needs to make `AsyncGridFile` a field of an ODM.

`Attacher` saves and deletes the files of a document. `assign`, `parse_input`, `from_stored` and `stored_value` turn
what a field is given, and what a document stores, into a file and back. `files_in` finds the files in a document,
and `mark_loaded` says that a document was loaded from the database, and so owns its files.
`gridproxy.testing` checks that an adapter keeps the contract.
"""

from gridproxy.file.state import FileState
from gridproxy.file.values import assign, from_stored, parse_input, stored_value, validate_assignment

from .attacher import Attacher
from .default_database import DefaultDatabase
from .discovery import exchange_files, files_in, models_in, options_in
from .wrap import mark_loaded

__all__ = [
    "Attacher",
    "DefaultDatabase",
    "FileState",
    "assign",
    "exchange_files",
    "files_in",
    "from_stored",
    "mark_loaded",
    "models_in",
    "options_in",
    "parse_input",
    "stored_value",
    "validate_assignment",
]
