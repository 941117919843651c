"""What can go wrong with scans."""

from core.errors import Invalid, NotFound


class ScanNotFound(NotFound):
    code = "not_found"


class CallbackNotRegistered(Invalid):
    title = "This callback is not registered here"
