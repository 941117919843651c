"""What /metrics says for all processes of a service: two rows in MongoDB, counts of workers and a snapshot."""

import asyncio
from collections.abc import Mapping

import pymongo
import structlog
from pymongo import WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from core import metrics
from core.mongo import NOW, Row

log = structlog.get_logger("metrics")

COUNTS, SNAPSHOT = "counts", "snapshot"
WITHIN_S = 1.0
DOT, STORED_DOT = ".", "\uff0e"  # a dot in the name of a field would be a path


class Measurements:
    """The collection `metrics` of a service's first module."""

    def __init__(self, rows: AsyncCollection[Row]) -> None:
        self._rows = rows
        self._saved: dict[str, float] = {}

    async def add_counts(self) -> None:
        """Adds what this process has counted since the last time; what fails is added with the next."""
        now = metrics.counted()
        added = {
            f"series.{series.replace(DOT, STORED_DOT)}": value - self._saved.get(series, 0.0)
            for series, value in now.items()
            if self._saved.get(series) != value  # a new one with its nought: its first count must be an increase
        }
        if not added:
            return
        rows = self._rows.with_options(write_concern=WriteConcern(w=1))
        try:
            with pymongo.timeout(WITHIN_S):
                await rows.update_one({"_id": COUNTS}, {"$inc": added}, upsert=True)
        except PyMongoError as error:
            log.warning("counts_kept", error=type(error).__name__)
        else:
            self._saved = now

    async def keep_snapshot(self, gauges: metrics.Gauges) -> None:
        kept = [{"name": name, "labels": dict(labels), "value": value} for name, labels, value in gauges]
        snapshot = [{"$set": {"at": NOW, "gauges": {"$literal": kept}}}]
        await self._rows.update_one({"_id": SNAPSHOT}, snapshot, upsert=True)

    async def exposition(self) -> bytes:
        """For Prometheus; without MongoDB it is what this API counted itself, after a second."""
        try:
            async with asyncio.timeout(WITHIN_S):
                rows = await self._rows.find({"_id": {"$in": [COUNTS, SNAPSHOT]}}).to_list()
        except (TimeoutError, PyMongoError):
            return metrics.render({}, [("snapshot_up", {}, 0)])
        found: dict[str, Row] = {row["_id"]: row for row in rows}
        counts: Mapping[str, float] = found.get(COUNTS, {}).get("series", {})
        gauges: list[tuple[str, Mapping[str, str], float]] = [("snapshot_up", {}, 1)]
        if SNAPSHOT in found:
            gauges += [(each["name"], each["labels"], each["value"]) for each in found[SNAPSHOT]["gauges"]]
            gauges.append(("snapshot_timestamp_seconds", {}, found[SNAPSHOT]["at"].timestamp()))
        return metrics.render({series.replace(STORED_DOT, DOT): value for series, value in counts.items()}, gauges)
