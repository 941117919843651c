"""Who is told of whose events, in this process or in another: the same table everywhere.

A subscriber of this process is called by the relay. One that runs elsewhere gets the event by Celery, does its work and
then tells the publisher to close the copy; a message that is lost leaves the copy open, and it is sent again.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from app.inventory.contracts import STOCK_EVENTS
from app.modules import selected
from app.products.contracts import PRODUCT_EVENTS
from core.broker import BrokerAway
from core.celery import event_queue
from core.events import NotYet, OutboxEvent, Subscriber
from core.relay import delivery_id
from core.tracing import carried, current_request_id
from core.worker_process import Work

if TYPE_CHECKING:
    from app.container import Container

HANDLE, CLOSE = "events.handle", "events.close"
MOST_WAITING = 200  # events of a subscriber that nobody serves must not fill Redis

# Publisher → subscribers that may run in another process, and what they are told of.
ELSEWHERE: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "products": {"inventory": PRODUCT_EVENTS, "webhooks": PRODUCT_EVENTS},
        "inventory": {"webhooks": STOCK_EVENTS},
    }
)
HERE = {"documents": ("webhooks",), "folders": ("webhooks",)}  # never apart from each other


def connect(container: "Container") -> None:
    """Gives each publisher of this process its subscribers."""
    modules = selected(container.settings())
    for publisher in modules.keys() & {*ELSEWHERE, *HERE}:
        found = [
            getattr(container, name).subscriber()
            for name in (*HERE.get(publisher, ()), *ELSEWHERE.get(publisher, ()))
            if name in modules
        ]
        found += [
            _remote(container, publisher, name, types)
            for name, types in ELSEWHERE.get(publisher, {}).items()
            if name not in modules
        ]
        getattr(container, publisher).subscribers.override(tuple(found))


def event_queues(modules: Collection[str]) -> list[str]:
    """Where a process with these modules is told of what happens elsewhere; none where everything is here."""
    concerned = {*ELSEWHERE, *(name for subscribers in ELSEWHERE.values() for name in subscribers)}
    return [] if concerned <= set(modules) else [event_queue(name) for name in sorted(concerned & set(modules))]


async def _handle(container: "Container", name: str, publisher: str, raw: dict[str, Any]) -> None:
    event = OutboxEvent.model_validate(raw)
    subscriber: Subscriber = getattr(container, name).subscriber()
    await subscriber.handle(event)
    done = (publisher, delivery_id(event.event_id, name))
    container.wake_ups().send(CLOSE, done, queue=event_queue(publisher), **_asked_by())


def _asked_by() -> dict[str, Any]:
    return {"request_id": current_request_id(), "trace": carried()}


async def _close(container: "Container", publisher: str, delivery: str) -> None:
    await getattr(container, publisher).relay().close(delivery)


def _remote(container: "Container", publisher: str, name: str, types: frozenset[str]) -> Subscriber:
    async def pass_on(event: OutboxEvent) -> None:
        queue = event_queue(name)
        try:
            if sum(await container.broker().waiting(queue)) < MOST_WAITING:
                told = (name, publisher, event.model_dump(mode="json"))
                container.wake_ups().send(HANDLE, told, queue=queue, **_asked_by())
        except BrokerAway:
            pass  # sent again, as everything that was not closed
        raise NotYet

    return Subscriber(name, types, pass_on, passes_on=True)


TASKS: Mapping[str, Work] = MappingProxyType({HANDLE: _handle, CLOSE: _close})
