"""Files that are whole or not there."""

from lottery.storage.checkpoints import decode_checkpoint, encode_checkpoint
from lottery.storage.directory import BEFORE_CHECKPOINTS, FORMAT, MANIFEST, Directory
from lottery.storage.encoding import decode_json, decode_metadata, decode_tensors, encode_json, encode_tensors
from lottery.storage.files import ForeignFile, StorageError, local_path, read_as, write
from lottery.storage.locks import LOCK

__all__ = [
    "BEFORE_CHECKPOINTS",
    "FORMAT",
    "LOCK",
    "MANIFEST",
    "Directory",
    "ForeignFile",
    "StorageError",
    "decode_checkpoint",
    "decode_json",
    "decode_metadata",
    "decode_tensors",
    "encode_checkpoint",
    "encode_json",
    "encode_tensors",
    "local_path",
    "read_as",
    "write",
]
