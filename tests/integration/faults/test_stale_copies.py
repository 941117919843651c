"""Whoever writes what he read long ago is refused."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.documents.adapter.mongo import MongoDocuments
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.domain.document import Document, RunResult
from app.documents.domain.errors import DocumentNotFound
from app.documents.domain.processors import ProcessingError
from tests.integration.faults.stage import Stage

READS = {"get", "find", "view", "find_by_sha256", "list", "removed", "objects_of", "has_documents", "stored_after"}
BY_STATE = {"wake_due", "end_overdue", "free_dead"}  # the reconciler's: they hold no copy
RESULT = RunResult(attempt=1, processor="stale", version="1", partial=False, warnings=(), summary=None, objects={})

Write = Callable[[], Awaitable[object]]


def writes(stage: Stage, copy: Document) -> dict[str, Write]:
    """Every method of the repositories that changes a document, told what the copy says."""
    documents: MongoDocuments = stage.container.documents.documents()
    runs: MongoRuns = stage.container.documents.runs()
    id, owner, token = copy.id, copy.owner_id, copy.run.token or ""
    asked: dict[str, Any] = {"processor": "stale", "options": {}, "force": False, "request_id": "req_12345678"}
    return {
        "add": lambda: documents.add(copy),
        "update": lambda: documents.update(copy, {"filename": "stale.pdf"}),
        "purge": lambda: documents.purge(id),
        "request": lambda: runs.request(id, owner, **asked),
        "claim": lambda: runs.claim(id, copy.run.attempt, token="stale", worker="stale"),
        "beat": lambda: runs.beat(id, token, progress=99, message="stale"),
        "hashed": lambda: runs.hashed(id, token, "0" * 64),
        "complete": lambda: runs.complete(id, token, RESULT),
        "fail": lambda: runs.fail(id, token, ProcessingError.of("internal")),
        "retry": lambda: runs.retry(id, token, delay_s=0),
        "postpone": lambda: runs.postpone(id, token, delay_s=0),
        "release": lambda: runs.release(id, token),
        "cancel": lambda: runs.cancel(id, owner),
    }


async def held(stage: Stage) -> Document:
    """A copy of a running document; its run has been freed since and is running anew."""
    runs = stage.container.documents.runs()
    (document_id,) = await stage.documents(1)
    await stage.request(document_id)
    copy: Document = await runs.claim(document_id, 1, token="first", worker="w")
    assert await runs.retry(document_id, "first", delay_s=0)
    assert await runs.claim(document_id, 2, token="second", worker="w")
    return copy


async def stale_save(stage: Stage) -> None:
    completed, deleted = await held(stage), await held(stage)
    runs = stage.container.documents.runs()
    assert await runs.complete(completed.id, "second", RESULT.model_copy(update={"attempt": 2}))
    assert await runs.remove(deleted.id, deleted.owner_id)
    for copy in (completed, deleted):
        before = await stage.row(copy.id)
        for name, write in writes(stage, copy).items():
            try:
                refused = not await write()
            except DocumentNotFound:
                refused = True
            assert refused or name == "add", f"{name} took a stale copy"  # `add` answers what is there already
            assert await stage.row(copy.id) == before, f"{name} changed the document"
    assert not await runs.remove(deleted.id, deleted.owner_id)
    stage.report(fault="stale-save", lost=0, twice=0)


async def test_a_stale_copy_changes_nothing_by_any_method(stage: Stage) -> None:
    await stale_save(stage)


def test_no_method_of_the_repositories_is_forgotten() -> None:
    methods = {name for kind in (MongoDocuments, MongoRuns) for name in vars(kind) if not name.startswith("_")}
    written = {"add", "update", "purge", "request", "claim", "beat", "hashed", "complete", "fail", "retry", "postpone"}
    assert methods == READS | BY_STATE | written | {"release", "cancel", "remove"}


@pytest.mark.parametrize("fields", [{"status": "UPLOADED"}, {"run.state": "queued"}, {"run.result": None}])
async def test_the_database_refuses_a_state_that_cannot_be(stage: Stage, fields: dict[str, Any]) -> None:
    copy = await held(stage)
    await stage.container.documents.runs().complete(copy.id, "second", RESULT)
    wanted = {"run.state": "queued"} | fields if "status" in fields else fields
    with pytest.raises(Exception, match="Document failed validation"):
        await stage.rows.update_one({"_id": copy.id}, {"$set": wanted})
