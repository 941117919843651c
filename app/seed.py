"""Sample data for a running instance, through its own API: an account, folders with documents, products and stock.

Every step looks first or carries a key of its own, so that running it again adds nothing.
"""

import asyncio
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx

from core.exits import CannotGoOn

WAIT_S = 120.0
FOLDERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Invoices": {
            "invoice-2026-001.pdf": "Invoice 2026-001\nTwelve hammers, 153.00 EUR\nPayable within 30 days",
            "invoice-2026-002.pdf": "Invoice 2026-002\nForty boxes of nails, 90.00 EUR\nPaid, thank you",
        },
        "Contracts": {
            "lease-of-the-workshop.docx": "Lease of the workshop\nThe rent is due on the first of each month.",
            "terms-of-delivery.pdf": "Terms of delivery\nGoods remain ours until they are paid for.",
        },
        "Minutes": {"minutes-of-march.docx": "Minutes of March\nThe board agreed to open a second shop."},
    }
)
PRODUCTS: Mapping[str, tuple[str, str, int]] = MappingProxyType(
    {
        "DEMO-HAMMER": ("Hammer", "12.75", 40),
        "DEMO-NAILS": ("Box of nails", "2.25", 500),
        "DEMO-SAW": ("Saw", "24.90", 3),
    }
)


@dataclass(frozen=True)
class Demo:
    """Whom it belongs to; without `api_key` there are no products."""

    url: str
    email: str
    password: str
    api_key: str | None


async def seed(demo: Demo) -> dict[str, int]:
    """What is there now, and how many of it this call has made. Raises CannotGoOn."""
    async with httpx.AsyncClient(base_url=demo.url, timeout=60) as http:
        api = _Api(http, demo.url)
        made = await _documents(api, demo) if await api.has("/documents") else {}
        if demo.api_key and await api.has("/products"):
            made |= await _shop(api, {"X-API-Key": demo.api_key})
        return made


class _Api:
    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, url

    async def has(self, path: str) -> bool:
        """Whether this process has the module."""
        return (await self.call("GET", path, 200, 401, 404)).status_code != 404

    async def call(self, method: str, path: str, *wanted: int, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            reason = type(error).__name__
            raise CannotGoOn(
                f"--url: {self._url} does not answer ({reason}); start it or correct the address"
            ) from None
        if answer.status_code not in wanted:
            code = answer.json().get("code") if "json" in answer.headers.get("content-type", "") else None
            raise CannotGoOn(f"{method} {path}: {self._url} answers {answer.status_code} {code or ''}".rstrip())
        return answer


async def _documents(api: _Api, demo: Demo) -> dict[str, int]:
    account = {"email": demo.email, "password": demo.password}
    login = await api.call("POST", "/auth/login", 200, 401, json=account)
    if login.status_code == 401:
        if (await api.call("POST", "/auth/register", 201, 409, json=account)).status_code == 409:
            raise CannotGoOn(f"--password: is not that of {demo.email}, who is known to {demo.url}")
        login = await api.call("POST", "/auth/login", 200, json=account)
    auth = {"Authorization": f"Bearer {login.json()['access_token']}"}
    known = {each["name"]: each["folder_id"] for each in await _items(api, "/folders", auth)}
    made, uploaded = 0, []
    for name, files in FOLDERS.items():
        if name not in known:
            made += 1
            known[name] = (await api.call("POST", "/folders", 201, json={"name": name}, headers=auth)).json()[
                "folder_id"
            ]
        for filename, text in files.items():
            lines = text.split("\n")
            content = pdf(lines) if filename.endswith(".pdf") else docx(lines)
            fields = {"folder_id": known[name], "external_id": f"demo:{filename}", "on_duplicate": "return"}
            file = {"file": (filename, content)}
            answer = await api.call("POST", "/documents/upload", 201, 200, files=file, data=fields, headers=auth)
            uploaded.append((answer.status_code == 201, answer.json()))
    for _, document in uploaded:
        if document["status"] == "UPLOADED":
            await api.call("POST", f"/documents/{document['document_id']}/process", 202, headers=auth)
    async with asyncio.timeout(WAIT_S):
        for _, document in uploaded:
            status = f"/documents/{document['document_id']}/status?wait=20"
            while (await api.call("GET", status, 200, headers=auth)).json()["status"] == "PROCESSING":
                pass
    return {"folders_made": made, "documents_made": sum(is_new for is_new, _ in uploaded), "documents": len(uploaded)}


async def _shop(api: _Api, key: Mapping[str, str]) -> dict[str, int]:
    made = 0
    has_stock = await api.has("/inventory")
    for sku, (name, price, quantity) in PRODUCTS.items():
        product = {"sku": sku, "name": name, "tags": ["demo"], "price": {"amount": price, "currency": "EUR"}}
        answer = await api.call("POST", "/products", 201, 409, json=product, headers=key)
        if answer.status_code == 409:
            answer = await api.call("GET", "/products", 200, params={"sku": sku}, headers=key)
            product_id = answer.json()["items"][0]["product_id"]
        else:
            made, product_id = made + 1, answer.json()["product_id"]
        if has_stock:  # the first delivery, under one key for a day, and later not where there was any
            moves = f"/inventory/{product_id}/movements"
            if not (await api.call("GET", moves, 200, headers=key)).json()["items"]:
                body = {"kind": "receive", "quantity": quantity, "reference": "demo"}
                headers = {**key, "Idempotency-Key": f"demo:{product_id}"}
                await api.call("POST", moves, 201, json=body, headers=headers)
    return {"products_made": made, "products": len(PRODUCTS)}


async def _items(api: _Api, path: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await api.call("GET", path, 200, params={"cursor": cursor} if cursor else {}, headers=headers)).json()
        found += page["items"]
        cursor = page["next_cursor"]
    return found


def pdf(lines: list[str]) -> bytes:
    """One page with these lines; the same bytes each time."""
    text = "BT /F1 14 Tf 60 780 Td 20 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        " /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
    ]
    body, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(f"{len(body):010} 00000 n \n")
        body += f"{number} 0 obj\n{each}\nendobj\n"
    count = len(objects) + 1
    table = f"xref\n0 {count}\n0000000000 65535 f \n{''.join(places)}"
    return f"{body}{table}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n".encode("ascii")


def docx(lines: list[str]) -> bytes:
    """A paragraph for each line; the same bytes each time."""
    formats = "http://schemas.openxmlformats.org"
    paragraphs = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{formats}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{word}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{formats}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{formats}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
        "</Relationships>",
        "word/document.xml": f'<w:document xmlns:w="{formats}/wordprocessingml/2006/main"><w:body>{paragraphs}'
        "</w:body></w:document>",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, text in parts.items():
            packed.writestr(zipfile.ZipInfo(name), f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{text}')
    return archive.getvalue()
