"""A change and its event are one; the relay skips nothing, whenever it commits."""

import json

import pytest

from app.documents.domain.document import Document
from tests.integration.faults.invariants import assert_invariants
from tests.integration.faults.process import INTERVAL_S, LEASE_S, many
from tests.integration.faults.recovery import Loss, assert_brought_back, moment
from tests.integration.faults.stage import Stage

pytestmark = pytest.mark.timeout(600)

POINTS = 20


async def event_atomicity(stage: Stage) -> None:
    """Each document kills its worker at another command of the database, from `complete` to the last delivery."""
    ids = await stage.documents(POINTS * many(1, 3))
    points = stage.folder.root / "points.json"
    points.write_text(json.dumps({document_id: 1 + number % POINTS for number, document_id in enumerate(ids)}))
    stage.env["POINTS"] = str(points)
    stage.control()
    worker = stage.worker("die-around-complete")
    await stage.request(*ids)
    await stage.ended(len(ids) * 0.5 + LEASE_S + INTERVAL_S + 3)
    assert await stage.count(status="COMPLETED") == len(ids)
    await assert_invariants(stage)
    told = await stage.inbox.find({"type": "document.completed"}).to_list()
    assert sorted(event["document_id"] for event in told) == sorted(ids)
    deaths = worker.events("killed")
    assert len(deaths) >= POINTS // 2, "it was killed at most points"
    freed = {id for id in ids if (await stage.row(id))["run"]["attempt"] > 1}  # of the others the completion was in
    losses = [Loss(death["document_id"], 2, moment(death)) for death in deaths]
    recovery_s = await assert_brought_back(stage, [loss for loss in losses if loss.document_id in freed])
    stage.report(fault="event-atomicity", recovery_s=recovery_s, remarks=f"{len(deaths)} kills")


async def test_completion_and_its_event_are_one(stage: Stage) -> None:
    await event_atomicity(stage)


async def late_commit(stage: Stage) -> None:
    relay = stage.container.documents.relay()
    for _ in range(many(5, 20)):
        early, late = stage.document(), stage.document()
        async with stage.container.mongo().start_session() as session:
            await session.start_transaction()
            await stage.rows.insert_one(_row(early), session=session)
            await stage.rows.insert_one(_row(late))
            await relay.run()
            assert await stage.inbox.count_documents({"document_id": late.id}) == 1
            assert await stage.inbox.count_documents({"document_id": early.id}) == 0
            await session.commit_transaction()
        await relay.run()
        assert await stage.inbox.count_documents({"document_id": early.id}) == 1, "what committed late is told as well"
    assert await stage.count(outbox__at={"$exists": True}) == 0
    stage.report(fault="late-commit", lost=0, twice=0)


def _row(document: Document) -> dict[str, object]:
    return {"_id": document.id, **document.model_dump(exclude={"id"})}


async def test_an_event_that_commits_late_is_not_skipped(stage: Stage) -> None:
    await late_commit(stage)
