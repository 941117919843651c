"""What is told of an object that a scan finds, and which objects are left out."""

import unicodedata
from typing import Any

from core.object_keys import OWN_ROOT
from core.sources import MAX_KEY_BYTES
from core.storage.base import StoredFile

# What documents accept. Guessed from the name: asking for each object would cost a request.
CONTENT_TYPES = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


def found(file: StoredFile) -> dict[str, Any] | None:
    """One entry of a batch; None for what is no document or could not be filed under its path."""
    name = file.key.rpartition("/")[2]
    content_type = CONTENT_TYPES.get(name.rpartition(".")[2].lower()) if "." in name else None
    if content_type is None or file.key.startswith(OWN_ROOT) or not _is_path(file.key):
        return None
    return {
        "path": file.key,
        "filename": name,
        "size": file.size,
        "etag": file.etag,
        "content_type": content_type,
        "last_modified": file.modified_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _is_path(key: str) -> bool:
    plain = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in key)
    return plain and len(key.encode()) <= MAX_KEY_BYTES and ".." not in key.split("/")
