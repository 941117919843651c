"""Asking for processing, and what became of it: the side that people see. The worker's side: attempt.py."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from pydantic import ValidationError

from app.documents.domain.document import Document, DocumentView, RunResult, StoredObject
from app.documents.domain.errors import (
    DocumentNotFound,
    NotProcessing,
    ProcessingFailed,
    ProcessorUnknown,
    ResultNotReady,
    ThumbnailMissing,
)
from app.documents.domain.ports import Documents, ProcessingQueue, Runs, WakeUp
from app.documents.domain.processors import ProcessorRegistry, RegisteredProcessor
from core.errors import Invalid
from core.storage.base import FileStore

log = structlog.get_logger("documents")

RACES = 3
POLL_S = 0.5
DEFAULT_PROCESSOR = "extract"


class Processing:
    def __init__(
        self, documents: Documents, runs: Runs, queue: ProcessingQueue, files: FileStore, registry: ProcessorRegistry,
        stopping: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._documents, self._runs, self._queue = documents, runs, queue
        self._files, self._registry, self._stopping = files, registry, stopping

    def processors(self) -> tuple[RegisteredProcessor, ...]:
        return self._registry.list()

    async def request(
        self, owner_id: str, document_id: str, *, processor: str | None, options: Mapping[str, Any], force: bool,
        request_id: str, command_id: str | None = None,
    ) -> Document:  # fmt: skip
        """Queues an attempt where none is under way and, unless forced, none has succeeded; one for each command."""
        document = await self._documents.get(document_id, owner_id)
        chosen, checked = self._checked(document, processor, options)
        for _ in range(RACES):
            if document.status == "PROCESSING" or (document.status == "COMPLETED" and not force):
                return document
            queued = await self._runs.request(
                document_id,
                owner_id,
                processor=chosen.name,
                options=checked,
                force=force,
                request_id=request_id,
                command_id=command_id,
            )
            if queued is not None:
                self._queue.wake(WakeUp.of(queued))
                return queued
            document = await self._documents.get(document_id, owner_id)
        return document

    async def cancel(self, owner_id: str, document_id: str) -> Document:
        """Raises NotProcessing where nothing runs or waits."""
        cancelled = await self._runs.cancel(document_id, owner_id)
        if cancelled is None:
            await self._documents.get(document_id, owner_id)
            raise NotProcessing
        log.info("process_failed", document_id=document_id, attempt=cancelled.run.attempt, code="cancelled")
        return cancelled

    async def status(self, owner_id: str, document_id: str) -> DocumentView:
        return await self._documents.view(document_id, owner_id)

    async def changed_status(
        self, owner_id: str, document_id: str, *, wait_s: float, is_known: Callable[[DocumentView], bool]
    ) -> DocumentView:
        """The status once it is none that the caller knows, or is final, or the time is over."""
        ends = time.monotonic() + wait_s
        while True:
            view = await self._documents.view(document_id, owner_id)
            left = ends - time.monotonic()
            if left <= 0 or view["status"] != "PROCESSING" or not is_known(view) or self._stopping():
                return view
            await asyncio.sleep(min(POLL_S, left))

    async def result(self, owner_id: str, document_id: str) -> tuple[RunResult, StoredObject]:
        """What the record says of the result, and where the whole of it lies."""
        result = await self._completed(owner_id, document_id)
        return result, result.objects["result.json"]

    async def text(self, owner_id: str, document_id: str) -> StoredObject:
        result = await self._completed(owner_id, document_id)
        if "text.txt" not in result.objects:
            raise DocumentNotFound("The result has no text.")
        return result.objects["text.txt"]

    async def thumbnail(self, owner_id: str, document_id: str) -> StoredObject:
        result = await self._completed(owner_id, document_id)
        if "thumbnail.webp" not in result.objects:
            raise ThumbnailMissing
        return result.objects["thumbnail.webp"]

    def read(self, stored: StoredObject) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._files.read(stored.key)

    async def _completed(self, owner_id: str, document_id: str) -> RunResult:
        document = await self._documents.get(document_id, owner_id)
        if document.status == "FAILED" and document.run.error is not None:
            raise ProcessingFailed(document.run.error)
        if document.status != "COMPLETED" or document.run.result is None:
            raise ResultNotReady
        return document.run.result

    def _checked(
        self, document: Document, name: str | None, options: Mapping[str, Any]
    ) -> tuple[RegisteredProcessor, dict[str, Any]]:
        processor = self._registry.find(DEFAULT_PROCESSOR if name is None else name)
        if processor is None:
            raise ProcessorUnknown(pointer="/processor")
        if document.content_type not in processor.content_types:
            raise Invalid(
                "This processor does not take this type of document.", pointer="/processor", rule="content_type"
            )
        try:
            return processor, processor.checked(options)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
            pointer = "/options" + "".join(f"/{part}" for part in problem["loc"])
            raise Invalid("The option is not acceptable.", pointer=pointer, rule=problem["type"]) from None
