"""The applications of a fault test: those of production, with a consumer of all events, and with switches.

`SWITCHES` names fail-points (failpoints.py) and mutants (mutants.py); production code knows none of them.
"""

import os
from pathlib import Path
from typing import Any, get_args

from dependency_injector import providers
from fastapi import FastAPI
from pymongo.errors import DuplicateKeyError

from app import server, worker
from app.container import Container, Role, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.adapter.registry import BUILT_IN, InstalledProcessors
from app.documents.domain import limits
from app.documents.domain.document import EventType
from app.documents.domain.processors import PDF, RegisteredProcessor
from core.config import Settings
from core.events import OutboxEvent, Subscriber
from tests.integration.faults.failpoints import FAILPOINTS
from tests.integration.faults.mutants import MUTANTS
from tests.integration.faults.patches import Patch

CONSUMER = "consumer"
POISON = RegisteredProcessor(
    name="poison",
    version="1",
    description="Ends its worker process",
    entries={PDF: "poison:Poison"},
    limits=limits.SIMULATE,
    site=str(Path(__file__).with_name("processors")),
)


def __getattr__(name: str) -> Any:
    """`app`, when Celery asks for it: importing this module does nothing."""
    if name == "app":
        turn_on(os.environ["SWITCHES"], setattr)
        return worker.celery_app()
    raise AttributeError(name)


def api() -> FastAPI:
    turn_on(os.environ["SWITCHES"], setattr)
    return server.from_environment()


def turn_on(switches: str, patch: Patch) -> None:
    """Fail-points and mutants by name, and the container that tests share."""
    for name in filter(None, switches.split(",")):
        (FAILPOINTS | MUTANTS)[name](patch)
    patch(worker, "build_container", build)
    patch(server, "build_container", build)


def build(settings: Settings, role: Role) -> Container:
    """The container of production with a consumer and one more processor."""
    container = build_container(settings, role)
    subscriber = Subscriber(CONSUMER, frozenset(get_args(EventType)), consume)
    container.documents.subscribers.override(providers.Object((subscriber,)))
    container.documents.registry.override(providers.Object(InstalledProcessors((*BUILT_IN, POISON))))
    return container


async def consume(event: OutboxEvent) -> None:
    """Takes each event once: the inbox refuses the second."""
    inbox = DocumentRecord.get_pymongo_collection().database["inbox"]
    taken = {"_id": f"{CONSUMER}:{event.event_id}", "type": event.type, "seq": event.seq, **event.data}
    try:
        await inbox.insert_one(taken)
    except DuplicateKeyError:
        return
