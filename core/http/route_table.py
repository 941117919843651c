"""What the ingress knows of each route before it is called.

Built once from the routes themselves: each names its credential in OpenAPI's own words (`security`), and a route that
names none stops the start.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant
from starlette.routing import BaseRoute, Mount, Route, compile_path

from core.config import Settings
from core.http.direct import Answer, answering
from core.http.routes import StrictRoute

BODYLESS_BYTES, JSON_BYTES = 65_536, 1_048_576
ANY_DEPTH = -1  # of templates whose last parameter takes slashes


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    credentials: tuple[str, ...] = ()  # security schemes, any of which will do; none = public
    body_limit: int = BODYLESS_BYTES
    parameters: frozenset[str] = frozenset()  # of the query
    takes_files: bool = False
    answer: Answer | None = None  # None: what only describes the API

    @property
    def may_wait(self) -> bool:
        """Whether it can be asked to answer only when something has changed."""
        return "wait" in self.parameters


@dataclass(frozen=True)
class Rule:
    """One path of the table; `template` is what logs and metrics call it."""

    template: str
    pattern: re.Pattern[str]
    operations: Mapping[str, Operation]  # by method

    @property
    def allowed(self) -> tuple[str, ...]:
        return (*sorted(self.operations), *(("HEAD",) if "GET" in self.operations else ()))


class RouteTable:
    """Finds the rule of a path by its first segment and its depth, then by pattern."""

    def __init__(self, routes: Iterable[BaseRoute], settings: Settings) -> None:
        merged: dict[str, Rule] = {}
        for route in routes:
            rule = _rule(route, settings)
            known = merged.get(rule.template)
            operations = {**known.operations, **rule.operations} if known else rule.operations
            merged[rule.template] = Rule(rule.template, rule.pattern, operations)
        self._places: dict[tuple[str, int], list[Rule]] = {}
        for rule in merged.values():
            depth = ANY_DEPTH if ":path}" in rule.template else rule.template.count("/")
            self._places.setdefault((_first_segment(rule.template), depth), []).append(rule)

    def find(self, path: str) -> tuple[Rule | None, Mapping[str, str]]:
        """With the parameters in the path."""
        segment = _first_segment(path)
        for depth in (path.count("/"), ANY_DEPTH):
            for rule in self._places.get((segment, depth), ()):
                if match := rule.pattern.fullmatch(path):
                    return rule, match.groupdict()
        return None, {}


def _rule(route: BaseRoute, settings: Settings) -> Rule:
    if isinstance(route, Mount):
        template = f"{route.path}/{{path:path}}"
        return Rule(template, compile_path(template)[0], {"GET": Operation()})
    if isinstance(route, StrictRoute):
        credentials, limit, takes_files = route.credentials, route.body_limit(settings), route.takes_files
        parameters, answer = frozenset(_query_parameters(route.dependant)), answering(route)
    elif isinstance(route, Route) and not route.include_in_schema:  # the pages about the API itself
        credentials, limit, takes_files, parameters, answer = (), None, False, frozenset(), None
    else:
        raise TypeError(f"{route!r} does not say who may call it")
    operations = {
        method: Operation(
            credentials,
            limit or (JSON_BYTES if method in {"POST", "PUT", "PATCH"} else BODYLESS_BYTES),
            parameters,
            takes_files,
            answer,
        )
        for method in (route.methods or set()) - {"HEAD"}
    }
    return Rule(route.path, compile_path(route.path)[0], operations)


def _query_parameters(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _query_parameters(inner)


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
