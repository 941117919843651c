"""Which objects of a folder's source become documents."""

import unicodedata
from datetime import datetime

from app.documents.domain.document import Document, Source
from app.documents.domain.filename import FileNameRefused, clean_filename, extension
from app.documents.domain.processors import EXTENSIONS
from app.folders.contracts import ScannedFile, ScannedFolder
from core.ids import new_id
from core.object_keys import OWN_ROOT
from core.sources import MAX_KEY_BYTES, split_source


def scanned_document(folder: ScannedFolder, file: ScannedFile, max_bytes: int, now: datetime) -> Document | None:
    """The document at first sight; None for what no upload could be, and for a path that is not the source's."""
    bucket, prefix = split_source(folder.source)
    try:
        filename = clean_filename(file.filename)
    except FileNameRefused:
        return None
    fits = EXTENSIONS.get(file.content_type) == extension(filename) and file.size <= max_bytes
    if not fits or not _lies_under(prefix, file.path):
        return None
    return Document(
        id=new_id("doc"),
        owner_id=folder.owner_id,
        filename=filename,
        content_type=file.content_type,
        size=file.size,
        sha256=None,
        key=file.path,
        folder_id=folder.folder_id,
        source=Source(
            folder_id=folder.folder_id,
            bucket=bucket,
            path=file.path,
            etag=file.etag,
            generation=folder.generation,
            created_generation=folder.generation,
        ),
        created_at=now,
        updated_at=now,
    )


def _lies_under(prefix: str, path: str) -> bool:
    return (
        path.startswith(prefix)
        and not path.startswith(OWN_ROOT)  # or a source that is the whole bucket would name everybody's documents
        and len(path.encode()) <= MAX_KEY_BYTES
        and ".." not in path.split("/")
        and not any(unicodedata.category(character) == "Cc" for character in path)
    )
