"""What programs use: sign in, upload, process, wait."""

import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

import httpx

from dossier_client.http import Connection, DossierError, NotSignedIn
from dossier_client.store import Started, Store

MIB = 2**20
DIRECT_FROM_BYTES = 16 * MIB  # larger files go straight to storage
PIECE_BYTES = MIB // 4
ROUNDS_WITHOUT_PROGRESS = 5
TYPES = {
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
Progress = Callable[[int], None]
"""Called with the bytes of a file that are there."""


class Document(TypedDict):
    document_id: str
    filename: str
    content_type: str
    size: int
    sha256: str | None
    status: Literal["UPLOADED", "PROCESSING", "COMPLETED", "FAILED"]
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    created_at: str
    updated_at: str


class Status(TypedDict):
    document_id: str
    status: Literal["UPLOADED", "PROCESSING", "COMPLETED", "FAILED"]
    progress: int
    message: str
    attempt: int
    error: dict[str, Any] | None


class DossierClient:
    """One person at one server; several threads may share it."""

    def __init__(self, connection: Connection, store: Store) -> None:
        self._connection, self._store = connection, store

    @classmethod
    def signed_in(cls, store: Store | None = None) -> "DossierClient":
        """With the session that `dossier login` left. Raises NotSignedIn."""
        store = store or Store()
        tokens = store.tokens()
        if tokens is None:
            raise NotSignedIn
        return cls(Connection(tokens.server, tokens, store.save_tokens), store)

    @classmethod
    def login(cls, server: str, email: str, password: str, store: Store | None = None) -> "DossierClient":
        """Keeps the session in the store. Raises DossierError."""
        store = store or Store()
        connection = Connection(server, save=store.save_tokens)
        connection.sign_in("/auth/login", {"email": email, "password": password})
        return cls(connection, store)

    def folder(self, name: str) -> str:
        """The id of a folder, which is made where there is none of this name."""
        for folder in self._pages("/folders"):
            if folder["name"] == name:
                return str(folder["folder_id"])
        return str(self._connection.call("POST", "/folders", json={"name": name})["folder_id"])

    def upload(
        self, path: Path, *, folder_id: str | None = None, progress: Progress = lambda _: None,
        direct_from: int = DIRECT_FROM_BYTES,
    ) -> Document:  # fmt: skip
        """The document. After a crash the same call goes on with what has not arrived. Raises DossierError."""
        about = {"folder_id": folder_id} if folder_id else {}
        send = self._direct if path.stat().st_size >= direct_from else self._through_api
        for is_fresh in (False, True):
            name, started = self._store.started(self._connection.server, path, about, uuid.uuid4().hex)
            try:
                document = send(path, name, started, about, progress)
            except DossierError as error:
                if 400 <= error.status < 500 and not isinstance(error, NotSignedIn):
                    self._store.forget(name)  # the same again would be refused as well
                    if error.code in {"upload_expired", "not_found"} and started.upload_id and not is_fresh:
                        continue
                raise
            break
        self._store.forget(name)
        progress(document["size"])
        return document

    def process(self, document_id: str) -> Status:
        status: Status = self._connection.call("POST", f"/documents/{document_id}/process", json={})
        return status

    def wait(self, document_id: str, *, within_s: float = 900, tell: Progress = lambda _: None) -> Status:
        """The status when processing is over; `tell` hears of its progress in percent. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            status: Status = self._connection.call("GET", f"/documents/{document_id}/status?wait=20")
            tell(status["progress"])
            if status["status"] != "PROCESSING":
                return status
        raise TimeoutError(f"{document_id} is still being processed")

    def _through_api(
        self, path: Path, name: str, started: Started, about: dict[str, str], progress: Progress
    ) -> Document:
        def send(method: str, url: str, **options: Any) -> httpx.Response:
            with path.open("rb") as file:
                counted: Any = _Counted(file, progress)
                return self._connection.http.request(method, url, files={"file": (path.name, counted)}, **options)

        document: Document = self._connection.call("POST", "/documents/upload", key=started.key, send=send, data=about)
        return document

    def _direct(self, path: Path, name: str, started: Started, about: dict[str, str], progress: Progress) -> Document:
        kind, size = TYPES.get(path.suffix.lower(), "application/octet-stream"), path.stat().st_size
        if started.upload_id is None:
            wanted = {"filename": path.name, "size": size, "content_type": kind, **about}
            begun = self._connection.call("POST", "/documents/uploads", key=started.key, json=wanted)
            started = self._store.save_upload(name, started, begun["upload_id"], begun["part_size"])
        where = f"/documents/uploads/{started.upload_id}"
        best, rounds = -1, 0
        while (state := self._connection.call("GET", where))["status"] == "open" and state["urls"]:
            arrived = sum(part["size"] for part in state["parts"])
            best, rounds = max(best, arrived), 0 if arrived > best else rounds + 1
            if rounds > ROUNDS_WITHOUT_PROGRESS:
                raise DossierError(0, "storage_refused", "The storage does not take the file.")
            progress(arrived)
            self._send_parts(path, state["urls"], kind if started.part_size is None else None,
                             started.part_size or size, arrived, progress)  # fmt: skip
        if state["status"] == "expired":
            raise DossierError(409, "upload_expired", "The upload has expired.")
        document: Document = self._connection.call("POST", f"{where}/complete", json={})
        return document

    def _send_parts(
        self, path: Path, urls: list[dict[str, Any]], kind: str | None, step: int, arrived: int, progress: Progress
    ) -> None:
        """What is missing, until a link is refused: it may be too old, and the next round has fresh ones."""
        headers = {} if kind is None else {"Content-Type": kind}
        for part in urls:
            start = (part["part_number"] - 1) * step
            length = min(step, path.stat().st_size - start)
            send = partial(self._put, path, start, length, part["url"], headers, arrived, progress)
            try:
                self._connection.repeated(send)
            except DossierError as error:
                if error.status == 403:
                    return
                raise
            arrived += length

    def _put(
        self, path: Path, start: int, length: int, url: str, headers: dict[str, str], arrived: int, progress: Progress
    ) -> httpx.Response:
        def pieces() -> Iterator[bytes]:
            with path.open("rb") as file:
                file.seek(start)
                left = length
                while left and (piece := file.read(min(PIECE_BYTES, left))):
                    left -= len(piece)
                    progress(arrived + length - left)
                    yield piece

        target = httpx.URL(self._connection.server).join(url)
        headers = {**headers, "Content-Length": str(length)}
        return self._connection.http.put(target, content=pieces(), headers=headers)

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self._connection.call("GET", f"{path}?limit=100{cursor}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"


class _Counted:
    """A file that tells how far it has been read."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file, self._progress = file, progress
        self.fileno, self.seek = file.fileno, file.seek

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._progress(self._file.tell())
        return piece
