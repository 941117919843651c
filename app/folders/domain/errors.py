"""What can go wrong with folders."""

from core.errors import Conflict, Invalid, NotFound


class FolderNotFound(NotFound):
    code = "not_found"


class FolderExists(Conflict):
    title = "A folder with this name exists"


class FolderNotEmpty(Conflict):
    title = "The folder still holds documents"


class SourceNotAllowed(Invalid):
    code = "source_not_allowed"
    title = "This source may not be used"
