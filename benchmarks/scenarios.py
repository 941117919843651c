"""What is asked in each scenario: of Dossier, of the baseline, of a bare server and of the driver alone."""

import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.load import UNIQUE, Calls, Job, Requests
from benchmarks.stack import Server
from benchmarks.stock import START, Owner, Stock
from core.ids import new_id

DRAWN, PAGE, WALK = 4_000, 50, 100
BOUNDARY = "a-boundary-that-is-in-no-file"
LIST_FIELDS = dict.fromkeys(
    ("filename", "content_type", "size", "sha256", "status", "folder_id", "external_id", "metadata", "created_at",
     "updated_at"), 1,
)  # fmt: skip
ONE_FIELDS = {**LIST_FIELDS, "owner_id": 1, "version": 1}
STATUS_FIELDS: dict[str, Any] = {
    "status": 1, "owner_id": 1, "version": 1, "updated_at": 1,
    **{f"run.{name}": 1 for name in ("progress", "message", "attempt", "processor", "error", "queued_at", "started_at",
                                     "finished_at")},
}  # fmt: skip

Ask = tuple[str, Owner]  # a path, and who asks


@dataclass(frozen=True)
class Place:
    """Where the variants are."""

    dossier: Server
    baseline: Server
    bare: Server
    mongo_url: str
    mongo_db: str


@dataclass(frozen=True)
class Scenario:
    """One route. `paths` are the same for Dossier and the baseline but for how a page is named."""

    name: str
    connections: tuple[int, ...]
    ask: Callable[[Stock], list[Ask]]
    ask_baseline: Callable[[Stock], list[Ask]]
    driver: Callable[[Stock], tuple[str, str, list[Any]]] | None
    method: str = "GET"
    headers: str = ""
    body: bytes = b""

    def jobs(self, place: Place, stock: Stock, connections: int, seconds: float) -> dict[str, Job]:
        expected = 201 if self.body else 200
        asked = {"dossier": self.ask(stock), "baseline": self.ask_baseline(stock)}
        size = len(answer(place.dossier, self, asked["dossier"][0]))
        asked["bare"] = [(f"/{size}", owner) for _, owner in asked["dossier"]]
        jobs: dict[str, Job] = {
            name: Requests(
                getattr(place, name).port,
                [self.request(path, owner, ours=name != "baseline") for path, owner in asked[name]],
                200 if name == "bare" else expected, connections, seconds,
            )
            for name in asked
        }  # fmt: skip
        if self.driver is not None:
            collection, what, arguments = self.driver(stock)
            database = f"{place.mongo_db}_{collection}"
            jobs["driver"] = Calls(place.mongo_url, database, collection, what, arguments, connections, seconds)
        return jobs

    def request(self, path: str, owner: Owner, *, ours: bool) -> bytes:
        token = owner.token if ours else owner.baseline_token
        length = f"Content-Length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        return f"{head}{self.headers}{length}\r\n".encode() + self.body


def answer(server: Server, scenario: Scenario, ask: Ask, *, ours: bool = True) -> bytes:
    """The body of one answer, by a client of its own."""
    once = new_id("try")[-len(UNIQUE) :].encode()
    head, _, body = scenario.request(*ask, ours=ours).replace(UNIQUE, once).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    request = urllib.request.Request(server.base + ask[0], body or None, headers, method=scenario.method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as found:  # noqa: S310
        content: bytes = found.read()
    return content


def _by_id(suffix: str = "") -> Callable[[Stock], list[Ask]]:
    return lambda stock: [(f"/documents/{document_id}{suffix}", owner) for document_id, owner in stock.draw(DRAWN)]


def _for_all(path: str) -> Callable[[Stock], list[Ask]]:
    return lambda stock: [(path, owner) for owner in stock.owners]


def _find_one(fields: dict[str, Any]) -> Callable[[Stock], tuple[str, str, list[Any]]]:
    def drawn(stock: Stock) -> tuple[str, str, list[Any]]:
        found = stock.draw(DRAWN)
        return "documents", "one", [
            ({"_id": document_id, "owner_id": owner.id, "deleted_at": None}, fields) for document_id, owner in found
        ]  # fmt: skip

    return drawn


def _find_page(stock: Stock) -> tuple[str, str, list[Any]]:
    asked = [({"owner_id": owner.id, "deleted_at": None}, LIST_FIELDS, PAGE + 1) for owner in stock.owners]
    return "documents", "page", asked


def _find_deep_page(stock: Stock) -> tuple[str, str, list[Any]]:
    # The list ends a hundred documents behind the depth that is asked for; they begin where the others end.
    at = START.timestamp() + (len(stock.documents) + 100) / 1000
    behind = {"created_at": {"$lte": START.fromtimestamp(at, START.tzinfo)}, "_id": {"$gt": ""}}
    return "documents", "page", [({"owner_id": stock.big.id, "deleted_at": None, **behind}, LIST_FIELDS, PAGE + 1)]


def _insert(stock: Stock) -> tuple[str, str, list[Any]]:
    fields = {"source": None, "version": 1, "generation": 0, "created_at": START, "updated_at": START}
    return "folders", "insert", [{"owner_id": owner.id, **fields} for owner in stock.owners]


def scenarios(place: Place, stock: Stock) -> list[Scenario]:
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n"
    ).encode()
    file = form + b"%PDF-1.7\n" + b"0" * 10_212 + b"\nstartxref\n0\n%%EOF\n" + f"\r\n--{BOUNDARY}--\r\n".encode()
    depth = len(stock.documents) // WALK * WALK
    folder = b'{"name":"' + UNIQUE + b'"}'
    multipart = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    json_type = "Content-Type: application/json\r\n"
    page, create, upload = _for_all(f"/documents?limit={PAGE}"), _for_all("/folders"), _for_all("/documents/upload")
    deep = cache(lambda: _walked(place.dossier, stock.big, depth))  # a thousand requests
    deep_baseline = [(f"/documents?limit={PAGE}&skip={depth}", stock.big)]
    return [
        Scenario("status", (16,), _by_id("/status"), _by_id("/status"), _find_one(STATUS_FIELDS)),
        Scenario("one", (1, 4, 16, 64), _by_id(), _by_id(), _find_one(ONE_FIELDS)),
        Scenario("list", (16,), page, page, _find_page),
        Scenario("deep", (16,), lambda _: deep(), lambda _: deep_baseline, _find_deep_page),
        Scenario("create", (16,), create, create, _insert, "POST", json_type, folder),
        Scenario("upload", (16,), upload, upload, None, "POST", multipart, file),
    ]  # fmt: skip


def _walked(server: Server, owner: Owner, depth: int) -> list[Ask]:
    """The page behind so many documents, found as a client finds it: page by page."""
    path = f"/documents?limit={WALK}"
    for _ in range(depth // WALK):
        page = json.loads(answer(server, Scenario("walk", (), _by_id(), _by_id(), None), (path, owner)))
        path = f"/documents?limit={WALK}&cursor={page['next_cursor']}"
    return [(path.replace(f"limit={WALK}", f"limit={PAGE}"), owner)]


def compare(place: Place, stock: Stock, scenario: Scenario) -> None:
    """Raises SystemExit where the baseline answers anything else, but for the name of the next page."""
    asked: Sequence[Ask] = scenario.ask(stock)[:20]
    theirs = asked if scenario.name != "deep" else scenario.ask_baseline(stock)
    for ask, ask_baseline in zip(asked, theirs, strict=True):
        ours = json.loads(answer(place.dossier, scenario, ask))
        other = json.loads(answer(place.baseline, scenario, ask_baseline, ours=False))
        if scenario.body:  # two that were made, by name and time
            same = ours.keys() == other.keys()
        elif "items" in ours:
            same = ours["items"] == other["items"] and ours.keys() == other.keys()
        else:
            same = ours == other
        if not same:
            raise SystemExit(f"{scenario.name}: the answers differ\n{ours}\n{other}")
