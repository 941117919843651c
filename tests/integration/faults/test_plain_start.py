"""`celery -A app.worker worker` and `beat` need nothing but settings."""

from tests.integration.faults.process import Process
from tests.integration.faults.stage import Stage


async def test_celery_starts_worker_and_beat_by_itself(stage: Stage) -> None:
    celery = ("celery", "-A", "app.worker")
    own = {name: value for name, value in stage.env.items() if name != "REMAP_SIGTERM"}
    worker = stage.start(Process(stage.folder, "plain-worker", [*celery, "worker", "--concurrency=1"], own))
    beat = stage.start(Process(stage.folder, "plain-beat", [*celery, "beat", "--pidfile="], own))
    (document_id,) = await stage.documents(1)
    await stage.request(document_id)
    await stage.ended(6)
    assert (await stage.row(document_id))["status"] == "COMPLETED"

    async def routed() -> bool:
        return await stage.count(outbox__at={"$exists": True}) == 0

    await stage.until(routed, 4, "events leave the outbox")
    assert worker.stop(within_s=40) == 0
    assert beat.stop(within_s=10) == 0
    assert "Traceback" not in worker.text() + beat.text()
