"""Files that are whole or not there."""

from lottery.storage.directory import FORMAT, LOCK, MANIFEST, Directory, ForeignFile, StorageError, read_as, write
from lottery.storage.encoding import decode_metadata, decode_tensors, encode_json, encode_tensors

__all__ = [
    "FORMAT",
    "LOCK",
    "MANIFEST",
    "Directory",
    "ForeignFile",
    "StorageError",
    "decode_metadata",
    "decode_tensors",
    "encode_json",
    "encode_tensors",
    "read_as",
    "write",
]
