"""What the servers of a benchmark hold: people with sessions, made by the application itself, and their documents."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jose import jwt
from pymongo import MongoClient, WriteConcern

from app.container import Container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.application.library import CheckedUpload, new_document
from app.documents.domain.document import RunResult, StoredObject, new_original_key, result_prefix
from app.documents.domain.processors import PDF, ExtractionSummary
from app.runtime import migrate
from app.users.domain.user import User, email_key
from benchmarks.baseline import ALGORITHM, SECRET
from core.config import Settings
from core.ids import new_id

BATCH = 5_000
START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "UPLOADED")


@dataclass(frozen=True)
class Owner:
    """A person, with the token of a live session and one that the baseline takes."""

    id: str
    token: str
    baseline_token: str


@dataclass(frozen=True)
class Stock:
    """`documents`: id and owner of each. `big` has a list that is as long as all of them together."""

    owners: list[Owner]
    documents: list[tuple[str, Owner]]
    big: Owner

    def draw(self, count: int) -> list[tuple[str, Owner]]:
        return [random.choice(self.documents) for _ in range(count)]  # noqa: S311


async def stocked(container: Container, documents: int, owners: int) -> Stock:
    """Builds everything on a running container with empty databases."""
    await migrate(container)
    big, *people = [await _person(container, number) for number in range(owners + 1)]
    settings: Settings = container.settings()
    shared = [(new_id("doc"), people[number % owners]) for number in range(documents)]
    own = [(new_id("doc"), big) for _ in range(documents + 100)]
    load(settings, [(document_id, owner.id) for document_id, owner in (*shared, *own)])
    return Stock(people, shared, big)


async def _person(container: Container, number: int) -> Owner:
    email = f"person-{number}@example.com"
    user = User(
        id=new_id("usr"), email=email, email_key=email_key(email), name=None, password_hash="!", created_at=START,  # noqa: S106
    )  # fmt: skip
    await container.users.users().add(user)
    session_id = new_id("ses")
    await container.users.sessions().start(session_id, user, "benchmark", container.users.life())
    token: str = container.token_codec().mint_access(user.id, session_id)
    return Owner(user.id, token, jwt.encode({"sub": user.id}, SECRET, algorithm=ALGORITHM))


def load(settings: Settings, owned: Sequence[tuple[str, str]], first: int = 0) -> None:
    """Documents by id and owner, in the order of their creation, a millisecond apart; the first has this number."""
    assert settings.mongo_url is not None
    with MongoClient[dict[str, Any]](settings.mongo_url.get_secret_value()) as client:
        name = DocumentRecord.Settings.name
        rows = client[f"{settings.mongo_db}_documents"].get_collection(name, write_concern=WriteConcern(w=1))
        for start in range(0, len(owned), BATCH):
            batch = list(_rows(owned[start : start + BATCH], first + start))
            rows.insert_many(batch, ordered=False, bypass_document_validation=True)


def _rows(owned: Sequence[tuple[str, str]], start: int) -> Iterator[dict[str, Any]]:
    templates = [_template(status) for status in STATUSES]
    for number, (document_id, owner_id) in enumerate(owned, start):
        at = START + timedelta(milliseconds=number)
        yield {
            **templates[number % len(templates)],
            "_id": document_id, "owner_id": owner_id, "created_at": at, "updated_at": at,
            "filename": f"invoice-{number}.pdf", "folder_id": f"fld_{number % 100:026}",
            "external_id": f"order-{number}", "sha256": f"{number:064x}", "key": new_original_key(document_id),
        }  # fmt: skip


def _template(status: str) -> dict[str, Any]:
    """A row as the application stores it, when its events have been told."""
    checked = CheckedUpload(PDF, 10_240, "0" * 64)
    document = new_document(
        new_id("doc"), "usr", "key", checked, START, filename="a.pdf", folder_id=None, external_id=None,
        metadata={"kind": "invoice", "year": "2026"},
    )  # fmt: skip
    row = document.model_dump(exclude={"id"}) | {"outbox": [], "status": status}
    if status != "UPLOADED":
        row["run"] |= {"attempt": 1, "tries": 1, "processor": "extract", "progress": 100, "request_id": "req_0"}
        row["run"] |= dict.fromkeys(("requested_at", "queued_at", "ready_at", "woken_at", "started_at"), START)
        row["run"] |= {"finished_at": START + timedelta(seconds=2), "token": "0" * 32, "worker": "worker:1"}
    if status == "FAILED":
        row["run"]["error"] = {"code": "timeout", "detail": "It took too long.", "retryable": True}
    if status == "COMPLETED":
        row["run"]["result"] = _result(document.id).model_dump(mode="python")
    return row


def _result(document_id: str) -> RunResult:
    prefix = result_prefix(document_id, 1)
    summary = ExtractionSummary(
        kind="pdf", page_count=2, metadata={"title": "Invoice"}, language="en", has_text_layer=True, characters=1234
    )  # fmt: skip
    names = ("text.txt", "pages.ndjson", "thumbnail.webp", "result.json")
    objects = {name: StoredObject(key=prefix + name, size=1234, sha256="0" * 64) for name in names}
    return RunResult(
        attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=summary, objects=objects
    )  # fmt: skip
