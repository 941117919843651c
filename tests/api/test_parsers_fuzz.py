"""Random and mutated bytes at every parser a stranger reaches: refused or accepted, never a server error."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import Person
from tests.corpus import docxs, pdfs

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
FILES = st.sampled_from([(pdfs.pdf(["hello"]), "a.pdf"), (docxs.docx(["hello"]), "a.docx")])
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7 startxref\r\n--b--\r\n'


def mutated(content: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for position, byte in places:
        changed[position % len(changed)] = byte
    return bytes(changed)


PLACES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8)


@FUZZ
@given(file=FILES, places=PLACES, cut=st.integers(0, 200))
async def test_damaged_files(ada: Person, file: tuple[bytes, str], places: list[tuple[int, int]], cut: int) -> None:
    content = mutated(file[0], places)
    answer = await ada.upload(content[: len(content) - cut], file[1])
    assert answer.status_code in {201, 415, 422}, answer.text


@FUZZ
@given(content=st.binary(max_size=400), magic=st.sampled_from([b"", b"%PDF-1.7\n", b"PK\x03\x04"]), name=st.text())
async def test_files_and_names_that_are_none(ada: Person, content: bytes, magic: bytes, name: str) -> None:
    answer = await ada.post(
        "/documents/upload", files={"file": (name.replace("\r", "").replace("\n", ""), magic + content)}
    )
    assert answer.status_code in {201, 400, 415, 422}, answer.text


# Starlette leaves the spooled file of a broken form to the garbage collector, which closes it at once.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@FUZZ
@given(places=PLACES, boundary=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20))
async def test_forms_that_are_none(ada: Person, places: list[tuple[int, int]], boundary: str) -> None:
    for body, edge in ((mutated(FORM, places), "b"), (FORM, boundary)):
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        answer = await ada.post("/documents/upload", content=body, headers=headers)
        assert answer.status_code in {201, 400, 413, 415, 422}, answer.text


@FUZZ
@given(raw=st.binary(max_size=200))
async def test_bodies_that_are_no_json(http: httpx.AsyncClient, ada: Person, raw: bytes) -> None:
    headers = ada.auth | {"Content-Type": "application/json"}
    for path in ("/folders", "/auth/refresh", "/auth/login"):
        answer = await http.post(path, content=raw, headers=headers)
        assert answer.status_code in {400, 401, 422, 429}, answer.text


@FUZZ
@given(
    text=st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=60),
    name=st.sampled_from(
        ["Authorization", "If-None-Match", "If-Match", "Range", "Idempotency-Key", "X-Forwarded-For", "Host"]
    ),
)
async def test_headers_that_are_odd(http: httpx.AsyncClient, ada: Person, text: str, name: str) -> None:
    for path in ("/users/me", "/documents", "/documents/x/content"):
        given_headers = [(key.encode(), value.encode("latin-1")) for key, value in (ada.auth | {name: text}).items()]
        answer = await http.get(path, headers=given_headers)
        assert answer.status_code < 500, answer.text
