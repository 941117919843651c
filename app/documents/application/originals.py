"""Where originals lie: uploaded ones in our bucket, scanned ones where their host keeps them."""

from app.documents.domain.document import Document
from core.storage.base import FileStore


def original_place(files: FileStore, document: Document) -> tuple[FileStore, str | None]:
    """The store that holds the original, and the version that is meant: an object of a host may change at any time."""
    if document.source is None:
        return files, None
    return files.at(document.source.bucket), document.source.etag.strip('"')
