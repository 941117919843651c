"""What can go wrong with documents, as clients are told."""

from app.documents.domain.processors import ProcessingError
from core.errors import AppError, Conflict, Invalid, NotFound, Unsupported


class DocumentNotFound(NotFound):
    code = "not_found"


class UploadNotFound(NotFound):
    code = "not_found"


class UploadIncomplete(Conflict):
    title = "Not all of the file has arrived"


class OriginalMissing(NotFound):
    code = "not_found"
    title = "The original is no longer where a scan found it"


class ThumbnailMissing(NotFound):
    title = "This document has no thumbnail"


class DuplicateDocument(Conflict):
    title = "You have a document with the same content"


class ResultNotReady(Conflict):
    title = "The document has not been processed yet"


class ProcessingFailed(Conflict):
    title = "Processing failed"

    def __init__(self, error: ProcessingError) -> None:
        self.rule = error.code
        super().__init__(f"{error.code}: {error.detail}")


class NotProcessing(Conflict):
    title = "The document is not being processed"


class ProcessorUnknown(Invalid):
    title = "There is no processor of this name"


class UnsupportedFileType(Unsupported):
    title = "Only PDF and DOCX files are accepted"


class FileCorrupt(Invalid):
    title = "The file is damaged"


class FileEncrypted(Invalid):
    title = "The file is protected by a password"


class FileNameInvalid(Invalid):
    title = "The file name cannot be used"


class MacroNotAllowed(Invalid):
    title = "Documents with macros are not accepted"


class ArchiveBomb(Invalid):
    title = "The file unpacks to more than is allowed"


REFUSALS: dict[str, type[AppError]] = {
    error.code: error for error in (UnsupportedFileType, FileCorrupt, FileEncrypted, MacroNotAllowed, ArchiveBomb)
}
