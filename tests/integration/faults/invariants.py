"""What holds after every fault: on the documents, on the consumer's inbox and on the objects."""

from collections import Counter
from datetime import timedelta
from typing import get_args

from app.documents.adapter.mongo import DocumentDeliveryRecord
from app.documents.domain.document import RESULTS
from app.documents.domain.processors import ErrorCode
from core.relay import OPEN
from tests.integration.faults.process import INTERVAL_S
from tests.integration.faults.stage import Stage

FINAL = ("document.completed", "document.failed")
SETTLE_S = 3  # two runs of the relay, and of the reconciler


async def assert_invariants(stage: Stage) -> None:
    """With beat, control and a worker on the stage, so that what is late may still come."""
    deliveries = DocumentDeliveryRecord.get_pymongo_collection()

    async def nothing_is_open() -> bool:
        waiting = await stage.count(outbox__at={"$exists": True})
        return not waiting and not await deliveries.count_documents({"status": {"$in": OPEN}})

    await stage.until(nothing_is_open, SETTLE_S, "no event and no delivery is open")
    lost = [id for id in stage.accepted if (await stage.row(id))["status"] not in ("COMPLETED", "FAILED")]
    finals = await _finals(stage)
    twice = {id: finals[id] - asked for id, asked in stage.accepted.items() if finals[id] > asked}
    stage.report(lost=len(lost), twice=sum(twice.values()))
    assert not lost, f"lost: {lost}"
    assert not twice, f"applied twice: {twice}"
    untold = [id for id, asked in stage.accepted.items() if finals[id] < asked]
    assert not untold, f"no final event: {untold}"
    await _assert_states(stage)
    await _assert_objects(stage)


async def _finals(stage: Stage) -> Counter[str]:
    """Final events that the consumer took, by document."""
    rows = await stage.inbox.find({"type": {"$in": FINAL}}).to_list()
    return Counter(row["document_id"] for row in rows)


async def _assert_states(stage: Stage) -> None:
    now = (await stage.rows.database.command("hello"))["localTime"]
    late = now - timedelta(seconds=2 * INTERVAL_S)
    assert not await stage.count(run__state="running", run__locked_until={"$lt": late}), "a lease is long over"
    async for row in stage.rows.find({"_id": {"$in": list(stage.accepted)}}):
        assert row["run"]["state"] is None, row["run"]
        if row["status"] == "FAILED":
            assert row["run"]["error"]["code"] in get_args(ErrorCode)
        told = await stage.inbox.find({"document_id": row["_id"]}).sort("seq").to_list()
        assert [event["seq"] for event in told] == list(range(1, row["seq"] + 1)), "an event is missing"
        assert told[-1]["status"] == row["status"], "the last event tells another state"


async def _assert_objects(stage: Stage) -> None:
    """Pointers lead to objects, whole, of the attempt that they name."""
    files = stage.container.files()
    sizes = {file.key: file.size async for file in files.list_files(RESULTS)}
    await files.stat(stage.original)
    async for row in stage.rows.find({"status": "COMPLETED", "deleted_at": None}):
        result = row["run"]["result"]
        assert result["objects"], "a result has objects"
        for stored in result["objects"].values():
            assert stored["key"].startswith(f"{RESULTS}{row['_id']}/{result['attempt']}/")
            assert sizes.get(stored["key"]) == stored["size"], f"{stored['key']} is not there"
