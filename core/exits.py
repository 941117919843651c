"""How a command ends when it cannot do its work: a line for the operator, which tells the reasons apart, and a code."""

CANNOT_GO_ON = 1
BAD_SETTINGS = 2  # as of a wrong flag
CHILD_NOT_STARTED = 70  # EX_SOFTWARE: of a child of a worker, whose pool starts another


class CannotGoOn(Exception):
    """What an operator can put right: one line says what, where and what to do, and no secret."""
