"""The application that everybody writes: FastAPI and Beanie as tutorials show them, on the records of Dossier.

Three chained dependencies with an HS256 token, services by `Depends(Provide[…])`, one `BaseHTTPMiddleware`, standard
logging and the access log, `response_model` everywhere, pages by `skip`. No session check, no limits, no ETags, no
idempotency, no totals; the user is not loaded. Same collections, so same records and indexes; same fields answered.
"""

import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import beanie
import boto3
from beanie import Document, init_beanie
from botocore.config import Config
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide, inject
from fastapi import Depends, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.security import OAuth2PasswordBearer
from jose import JWTError, jwt
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware

from benchmarks.baseline import ALGORITHM, SECRET
from core.ids import new_id

if beanie.__version__.startswith("1."):  # see motor.txt
    from motor.motor_asyncio import AsyncIOMotorClient as Client
else:
    from pymongo import AsyncMongoClient as Client  # type: ignore[assignment]

PAGE = 50

logging.basicConfig(level=logging.INFO)
log = logging.getLogger(__name__)


class Run(BaseModel):
    state: str | None = None
    attempt: int = 0
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: int = 0
    message: str = ""
    processor: str | None = None
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


class StoredDocument(Document):
    id: str  # type: ignore[assignment]
    owner_id: str
    filename: str
    content_type: str
    size: int
    sha256: str | None
    key: str
    status: str
    folder_id: str | None = None
    external_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    run: Run = Field(default_factory=Run)
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    class Settings:
        name = "documents"


class StoredFolder(Document):
    id: str  # type: ignore[assignment]
    owner_id: str
    name: str
    source: str | None
    version: int = 1
    generation: int = 0
    created_at: datetime
    updated_at: datetime

    class Settings:
        name = "folders"


class DocumentOut(BaseModel):
    document_id: str
    filename: str
    content_type: str
    size: int
    sha256: str | None
    status: str
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


class StatusOut(BaseModel):
    document_id: str
    status: str
    progress: int
    message: str
    attempt: int
    processor: str | None
    error: dict[str, Any] | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


class PageOut(BaseModel):
    items: list[DocumentOut]
    next_cursor: str | None


class FolderIn(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    source: str | None = None


class FolderOut(BaseModel):
    folder_id: str
    name: str
    source: str | None
    created_at: datetime
    updated_at: datetime


class User(BaseModel):
    id: str
    disabled: bool = False


class DocumentService:
    def __init__(self, s3: Any) -> None:
        self.s3 = s3

    async def get(self, document_id: str, user: User) -> StoredDocument:
        document = await StoredDocument.get(document_id)
        if document is None or document.owner_id != user.id or document.deleted_at is not None:
            raise HTTPException(404, "Document not found")
        return document

    async def list(self, user: User, skip: int, limit: int) -> list[StoredDocument]:
        found = StoredDocument.find(StoredDocument.owner_id == user.id, StoredDocument.deleted_at == None)  # noqa: E711
        return await found.sort("-created_at", "-_id").skip(skip).limit(limit).to_list()

    async def upload(self, file: UploadFile, user: User) -> StoredDocument:
        content, now, document_id = await file.read(), datetime.now(UTC), new_id("doc")
        bucket = os.environ["S3_BUCKET"]
        await run_in_threadpool(self.s3.put_object, Bucket=bucket, Key=f"baseline/{document_id}", Body=content)
        document = StoredDocument(
            id=document_id, owner_id=user.id, filename=file.filename or "", content_type="application/pdf",
            size=len(content), sha256=hashlib.sha256(content).hexdigest(), key=f"baseline/{document_id}",
            status="UPLOADED", created_at=now, updated_at=now,
        )  # fmt: skip
        await document.insert()
        return document

    async def create_folder(self, body: FolderIn, user: User) -> StoredFolder:
        now = datetime.now(UTC)
        folder = StoredFolder(
            id=new_id("fld"), owner_id=user.id, name=body.name, source=body.source, created_at=now, updated_at=now
        )
        await folder.insert()
        return folder


def _s3() -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=64),
    )  # fmt: skip


class Container(containers.DeclarativeContainer):
    s3 = providers.Singleton(_s3)
    documents = providers.Factory(DocumentService, s3)


Service = Annotated[DocumentService, Depends(Provide[Container.documents])]
oauth2 = OAuth2PasswordBearer(tokenUrl="/auth/login")


async def current_user(token: Annotated[str, Depends(oauth2)]) -> User:
    try:
        payload = jwt.decode(token, SECRET, algorithms=[ALGORITHM])
    except JWTError as cause:
        raise HTTPException(401, "Could not validate credentials") from cause
    return User(id=payload["sub"])


async def active_user(user: Annotated[User, Depends(current_user)]) -> User:
    if user.disabled:
        raise HTTPException(400, "Inactive user")
    return user


CurrentUser = Annotated[User, Depends(active_user)]


class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        seconds = time.perf_counter() - started
        response.headers["X-Process-Time"] = f"{seconds:.4f}"
        log.info("%s %s %d %.1f ms", request.method, request.url.path, response.status_code, 1000 * seconds)
        return response


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    client: Any = Client(os.environ["MONGO_URL"], w="majority", journal=True, tz_aware=True)
    prefix = os.environ.get("MONGO_DB", "dossier")
    await init_beanie(client[f"{prefix}_documents"], document_models=[StoredDocument], skip_indexes=True)
    await init_beanie(client[f"{prefix}_folders"], document_models=[StoredFolder], skip_indexes=True)
    container.s3()
    log.info("started")
    yield
    if closing := client.close():  # Motor's returns nothing
        await closing


app = FastAPI(title="Baseline", lifespan=lifespan)
app.add_middleware(Timing)


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.get("/documents/{document_id}", response_model=DocumentOut)
@inject
async def get_document(document_id: str, user: CurrentUser, service: Service) -> DocumentOut:
    return _read(await service.get(document_id, user))


@app.get("/documents/{document_id}/status", response_model=StatusOut)
@inject
async def get_status(document_id: str, user: CurrentUser, service: Service) -> StatusOut:
    document = await service.get(document_id, user)
    run = document.run
    return StatusOut(
        document_id=document.id, status=document.status, progress=run.progress, message=run.message,
        attempt=run.attempt, processor=run.processor, error=run.error, queued_at=run.queued_at,
        started_at=run.started_at, finished_at=run.finished_at, updated_at=document.updated_at,
    )  # fmt: skip


@app.get("/documents", response_model=PageOut)
@inject
async def list_documents(user: CurrentUser, service: Service, skip: int = 0, limit: int = PAGE) -> PageOut:
    found = await service.list(user, skip, limit)
    return PageOut(items=[_read(each) for each in found], next_cursor=str(skip + limit) if found else None)


@app.post("/documents/upload", status_code=201, response_model=DocumentOut)
@inject
async def upload_document(file: UploadFile, user: CurrentUser, service: Service) -> DocumentOut:
    return _read(await service.upload(file, user))


@app.post("/folders", status_code=201, response_model=FolderOut)
@inject
async def create_folder(body: FolderIn, user: CurrentUser, service: Service) -> FolderOut:
    folder = await service.create_folder(body, user)
    return FolderOut(folder_id=folder.id, **folder.model_dump(exclude={"id"}))


def _read(document: StoredDocument) -> DocumentOut:
    return DocumentOut(document_id=document.id, **document.model_dump(exclude={"id", "run"}))


container = Container()
container.wire(modules=[__name__])
