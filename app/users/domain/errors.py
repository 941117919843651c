"""What can go wrong with accounts and sessions."""

from core.errors import Conflict, Forbidden, NotFound, Unauthenticated


class UserNotFound(NotFound):
    code = "not_found"


class SessionNotFound(NotFound):
    code = "not_found"


class EmailTaken(Conflict):
    title = "An account with this e-mail address exists"


class RegistrationClosed(Forbidden):
    title = "Registration is closed"


class CredentialsInvalid(Unauthenticated):
    title = "E-mail address or password is wrong"


class RefreshInvalid(Unauthenticated):
    title = "The refresh token cannot be used"
