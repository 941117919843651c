"""Wiring of the documents module."""

import os
import platform
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from dependency_injector import containers, providers

from app.documents.adapter.mongo import DocumentDeliveryRecord, DocumentKeyRecord, DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.adapter.mongo_scanned import MongoScannedDocuments
from app.documents.adapter.mongo_uploads import MongoDirectUploads
from app.documents.adapter.queue import CeleryProcessingQueue
from app.documents.adapter.registry import load_processors
from app.documents.adapter.runner import ChildProcessRunner, run_workdir
from app.documents.adapter.upload import StoredFileScan
from app.documents.application.attempt import Attempts
from app.documents.application.inspection import Inspection
from app.documents.application.library import Library
from app.documents.application.processing import Processing
from app.documents.application.upkeep import Upkeep
from app.documents.application.uploads import Uploads
from app.documents.domain.run_policy import RunPolicy
from core.http.gate import DOWNLOAD_WAIT_S, DOWNLOADS, Gate
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.relay import Relay

BEGINNINGS = 64  # written at a time: of a thousand, the last would wait too long for the database


class DocumentsContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    files: providers.Dependency[Any] = providers.Dependency()
    wake_ups: providers.Dependency[Any] = providers.Dependency()
    broker: providers.Dependency[Any] = providers.Dependency()
    stopping: providers.Dependency[Any] = providers.Dependency()
    folders: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    policy = providers.Singleton(
        RunPolicy,
        lease_s=settings.provided.processing_lease_seconds,
        interval_s=settings.provided.reconcile_interval_seconds,
    )
    documents = providers.Singleton(MongoDocuments, clock)
    scanned = providers.Singleton(MongoScannedDocuments, clock, settings.provided.max_upload_bytes)
    runs = providers.Singleton(MongoRuns, policy)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, DocumentKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    registry = providers.Singleton(load_processors)
    queue = providers.Singleton(CeleryProcessingQueue, wake_ups, registry, broker)
    runner = providers.Singleton(ChildProcessRunner, registry)
    upload_gate = providers.Singleton(Gate, settings.provided.upload_concurrency, settings.provided.upload_wait_seconds)
    download_gate = providers.Singleton(Gate, DOWNLOADS, DOWNLOAD_WAIT_S)
    begin_gate = providers.Singleton(Gate, BEGINNINGS, settings.provided.upload_wait_seconds)
    complete_gate = providers.Singleton(
        Gate, settings.provided.upload_concurrency, settings.provided.upload_wait_seconds
    )

    subscribers = providers.Object(())  # modules that listen: their container's business
    relay = providers.Singleton(Relay, DocumentRecord, DocumentDeliveryRecord, subscribers)

    library = providers.Singleton(Library, documents, runs, files, folders, clock)
    direct_uploads = providers.Singleton(MongoDirectUploads)
    uploads = providers.Singleton(
        Uploads, direct_uploads, documents, runs, files, folders, providers.Singleton(StoredFileScan),
        settings.provided.max_upload_bytes, clock,
    )  # fmt: skip
    processing = providers.Singleton(Processing, documents, runs, queue, files, registry, stopping)
    inspection = providers.Factory(Inspection, documents, direct_uploads, files, clock)
    upkeep = providers.Factory(Upkeep, documents, runs, queue, files)
    attempts = providers.Singleton(
        Attempts,
        runs,
        files,
        runner,
        partial(run_workdir, Path(tempfile.gettempdir())),
        policy,
        clock,
        providers.Callable(lambda: f"{platform.node()}:{os.getpid()}"),  # of the child, not of whoever imports this
        relay,
    )
