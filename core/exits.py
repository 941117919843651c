"""How a command ends when it cannot do its work: a line for the operator, and a code that tells the reasons apart."""

BAD_SETTINGS = 2  # as of a wrong flag
UNREACHABLE = 69  # EX_UNAVAILABLE: a store is away, or not what it must be
CHILD_NOT_STARTED = 70  # EX_SOFTWARE: of a child of a worker, whose pool starts another
NOT_MIGRATED = 73  # EX_CANTCREAT: a collection or an index
SEED_REFUSED = 76  # EX_PROTOCOL: the API that should be filled said no


class CannotGoOn(Exception):
    """What an operator can put right: one line says what, where and what to do, and no secret."""

    def __init__(self, code: int, line: str) -> None:
        self.code = code
        super().__init__(line)
