"""How a fail-point or a mutant changes production code: by setting an attribute, in a process of a test."""

from collections.abc import Callable

Patch = Callable[[object, str, object], None]
Switch = Callable[[Patch], None]


def named(*switches: Switch) -> dict[str, Switch]:
    """`stop_before_complete` is the switch `stop-before-complete`."""
    return {switch.__name__.replace("_", "-"): switch for switch in switches}
