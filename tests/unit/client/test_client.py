"""The client against a server that fails on purpose: nothing is sent twice, nothing finished is sent again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dossier_client.client import DossierClient
from dossier_client.http import TRIES, Connection, DossierError, NotSignedIn, Tokens
from dossier_client.store import Store

SERVER, STORAGE = "http://dossier.test", "http://storage.test"
PART = 1000
Fault = Callable[[httpx.Request], httpx.Response | None]


def refused(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "no"}, headers=headers)


class Server:
    """Answers as Dossier does, unless a fault comes first; keeps what arrived."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}
        self.parts: dict[int, bytes] = {}
        self.size = self.links = 0
        self.state = "open"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        self.seen.append((request.method, request.url.path))
        for fault in list(self.faults):
            try:
                answer = fault(request)
            except BaseException:
                self.faults.remove(fault)
                raise
            if answer is not None:
                self.faults.remove(fault)
                return answer
        if request.url.host == "storage.test":
            self.parts[int(request.url.path.rsplit("/", 1)[1])] = body
            return httpx.Response(200)
        if request.url.path == "/auth/refresh":
            return httpx.Response(200, json={"access_token": "new", "refresh_token": "r2"})
        if request.headers["authorization"] == "Bearer old":
            return refused(401, "token_expired")
        key = request.headers.get("idempotency-key", "")
        if request.method == "POST" and key in self.answers:
            return httpx.Response(200, json=self.answers[key])
        answer_body = self._answer(request, body)
        if request.method == "POST":
            self.answers[key] = answer_body
        return httpx.Response(200, json=answer_body)

    def _answer(self, request: httpx.Request, body: bytes) -> Any:
        path, document = request.url.path, {"document_id": "doc_1", "size": 1, "status": "UPLOADED"}
        if path == "/documents/uploads":
            self.size, self.state, self.parts = json.loads(body)["size"], "open", {}
            return {"upload_id": "upl_1", "part_size": PART}
        if path == "/documents/uploads/upl_1":
            self.links += 1
            numbers = range(1, -(-self.size // PART) + 1)
            return {
                "status": self.state,
                "parts": [{"part_number": number, "size": len(part)} for number, part in self.parts.items()],
                "urls": [
                    {"part_number": number, "url": f"{STORAGE}/{self.links}/{number}"}
                    for number in numbers if number not in self.parts
                ],
            }  # fmt: skip
        if path == "/folders" and request.method == "GET":
            return {"items": [{"name": "Old", "folder_id": "fld_1"}], "next_cursor": None}
        return {"folder_id": "fld_2"} if path == "/folders" else document

    def puts(self) -> list[int]:
        return [int(path.rsplit("/", 1)[1]) for method, path in self.seen if method == "PUT"]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def client(server: Server, store: Store) -> DossierClient:
    tokens = Tokens(SERVER, "good", "r1")
    transport = httpx.MockTransport(server)
    return DossierClient(
        Connection(SERVER, tokens, store.save_tokens, transport=transport, sleep=lambda _: None), store
    )


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.pdf"
    path.write_bytes(bytes(range(250)) * 13)  # four parts, the last one short
    return path


def once(matches: Callable[[httpx.Request], bool], answer: Callable[[], httpx.Response]) -> Fault:
    return lambda request: answer() if matches(request) else None


def cut() -> httpx.Response:
    raise httpx.ReadError("the connection broke")


def is_put(request: httpx.Request) -> bool:
    return request.method == "PUT"


def test_a_small_file_is_sent_once_although_the_answer_was_lost(
    client: DossierClient, server: Server, tmp_path: Path
) -> None:
    path, told = tmp_path / "a.pdf", list[int]()
    path.write_bytes(b"%PDF" * 100)
    keys: list[str] = []

    def lost(request: httpx.Request) -> httpx.Response | None:
        keys.append(request.headers["idempotency-key"])
        server.answers[keys[0]] = {"document_id": "doc_1", "size": 400}
        return cut()

    server.faults = [lost]
    assert client.upload(path, progress=told.append)["document_id"] == "doc_1"
    assert server.seen == [("POST", "/documents/upload")] * 2
    assert told[-1] == 400
    assert list(server.answers) == keys


def test_after_a_crash_a_small_file_is_sent_under_the_same_key(
    client: DossierClient, server: Server, tmp_path: Path
) -> None:
    path, keys = tmp_path / "a.pdf", list[str]()
    path.write_bytes(b"%PDF")

    def crash(request: httpx.Request) -> httpx.Response | None:
        keys.append(request.headers["idempotency-key"])
        raise KeyboardInterrupt

    server.faults = [crash]
    with pytest.raises(KeyboardInterrupt):
        client.upload(path)
    client.upload(path)
    assert list(server.answers) == keys


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_when_the_server_says(client: DossierClient, server: Server, status: int) -> None:
    server.faults = [once(lambda _: True, lambda: refused(status, "overloaded", **{"Retry-After": "1"}))] * 1
    assert client.process("doc_1")["document_id"] == "doc_1"
    assert len(server.seen) == 2


def test_patience_ends(client: DossierClient, server: Server) -> None:
    server.faults = [once(lambda _: True, cut) for _ in range(TRIES)]
    with pytest.raises(DossierError, match="unreachable"):
        client.process("doc_1")
    assert len(server.seen) == TRIES


def test_a_refusal_is_told_and_not_repeated(client: DossierClient, server: Server, large: Path, store: Store) -> None:
    server.faults = [once(lambda _: True, lambda: refused(415, "unsupported_file_type"))]
    with pytest.raises(DossierError, match="unsupported_file_type"):
        client.upload(large)
    assert len(server.seen) == 1
    assert list((large.parent / "home").glob("upload-*")) == []


def test_an_old_token_is_renewed_and_the_new_one_kept(server: Server, store: Store) -> None:
    connection = Connection(
        SERVER, Tokens(SERVER, "old", "r1"), store.save_tokens, transport=httpx.MockTransport(server)
    )
    assert DossierClient(connection, store).process("doc_1")["document_id"] == "doc_1"
    assert store.tokens() == Tokens(SERVER, "new", "r2")


def test_without_a_session_somebody_has_to_sign_in(store: Store) -> None:
    with pytest.raises(NotSignedIn):
        DossierClient.signed_in(store)


def test_a_large_file_goes_in_parts_and_a_broken_one_is_sent_again(
    client: DossierClient, server: Server, large: Path
) -> None:
    server.faults = [once(lambda request: is_put(request) and request.url.path.endswith("/2"), cut)]
    told: list[int] = []
    client.upload(large, direct_from=1, progress=told.append)
    assert server.puts() == [1, 2, 2, 3, 4]
    assert b"".join(server.parts[number] for number in sorted(server.parts)) == large.read_bytes()
    assert max(told) == large.stat().st_size


def test_links_that_are_too_old_are_renewed(client: DossierClient, server: Server, large: Path) -> None:
    server.faults = [once(lambda request: request.url.path == "/1/3", lambda: httpx.Response(403))]
    client.upload(large, direct_from=1)
    assert server.puts() == [1, 2, 3, 3, 4]
    assert server.links == 3


def test_a_storage_that_always_refuses_ends_the_upload(client: DossierClient, server: Server, large: Path) -> None:
    server.faults = [once(is_put, lambda: httpx.Response(403)) for _ in range(20)]
    with pytest.raises(DossierError, match="storage_refused"):
        client.upload(large, direct_from=1)


def test_after_a_crash_nothing_that_arrived_is_sent_again(
    client: DossierClient, server: Server, large: Path, store: Store
) -> None:
    def crash(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/3"):
            raise KeyboardInterrupt
        return None

    server.faults = [crash]
    with pytest.raises(KeyboardInterrupt):
        client.upload(large, direct_from=1)
    server.faults, server.seen = [], []
    assert client.upload(large, direct_from=1)["document_id"] == "doc_1"
    assert server.puts() == [3, 4]
    assert ("POST", "/documents/uploads") not in server.seen
    assert list((large.parent / "home").glob("upload-*")) == []


def test_an_upload_that_expired_is_begun_again(client: DossierClient, server: Server, large: Path) -> None:
    server.faults = [once(is_put, lambda: (_ for _ in ()).throw(KeyboardInterrupt))]
    with pytest.raises(KeyboardInterrupt):
        client.upload(large, direct_from=1)
    server.state = "expired"
    server.seen = []
    client.upload(large, direct_from=1)
    assert server.puts() == [1, 2, 3, 4]


def test_another_file_is_another_upload(client: DossierClient, store: Store, large: Path) -> None:
    first, _ = store.started(SERVER, large, {}, "k1")
    assert store.started(SERVER, large, {}, "k2")[1].key == "k1"
    large.write_bytes(b"other")
    assert store.started(SERVER, large, {}, "k3")[0] != first


def test_what_is_kept_is_for_its_owner_only(store: Store, tmp_path: Path) -> None:
    store.save_tokens(Tokens(SERVER, "a", "r"))
    assert (tmp_path / "home").stat().st_mode & 0o77 == 0
    assert (tmp_path / "home" / "session.json").stat().st_mode & 0o77 == 0


def test_a_folder_is_made_where_there_is_none(client: DossierClient) -> None:
    assert (client.folder("Old"), client.folder("New")) == ("fld_1", "fld_2")
