"""Endpoints of products."""

import asyncio
from collections import Counter
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.products.adapter.import_file import CSV, MAX_BYTES, NDJSON, read_rows
from app.products.adapter.schemas import ImportRead, ProductCreate, ProductRead, ProductUpdate, RowError
from app.products.application.imports import ProductImport
from app.products.application.service import ProductService
from app.products.contracts import ProductStatus
from app.products.domain.errors import ProductNotFound, SkuTaken
from app.products.domain.ports import Filters
from app.products.domain.product import Product
from core.config import Settings
from core.errors import (
    CursorInvalid,
    Invalid,
    Malformed,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    Unsupported,
)
from core.http.conditional import answer_with_etag, demand_match
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, list_page, position_of
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import ApiKeyRoute
from core.http.wired import wired
from core.security.service_keys import ApiKeyInvalid, ApiKeyMissing


class ImportRoute(ApiKeyRoute):
    """Takes a file, whole."""

    @classmethod
    def body_limit(cls, settings: Settings) -> int:
        return MAX_BYTES


router = APIRouter(prefix="/products", tags=["products"], route_class=ApiKeyRoute)
imports = APIRouter(prefix="/products", tags=["products"], route_class=ImportRoute)

KEYS = (ApiKeyMissing, ApiKeyInvalid)
_IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            NDJSON[0]: {"schema": {"type": "string"}, "example": '{"sku":"AB-100","name":"Hammer"}\n'},
            CSV: {
                "schema": {"type": "string"},
                "example": "sku,name,amount,currency,tags\nAB-100,Hammer,12.50,EUR,tools|iron\n",
            },
        },
    }
}


async def _filters(
    sku: Annotated[str | None, Query(max_length=256, description="Exact, without case and width")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Words that begin words of SKU, name or tags")] = None,
    status: Annotated[ProductStatus | None, Query()] = None,
) -> Filters:
    return Filters(sku, q, status)


Service = Annotated[ProductService, wired("products.service")]
CurrentOnce = Annotated[Once, once_in("products")]


@router.post(
    "", status_code=201, response_model=ProductRead, responses=responses(*KEYS, SkuTaken, Invalid, Malformed, *REFUSALS)
)
async def create_product(
    body: ProductCreate, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> ProductRead | Response:
    """Create a product; no other may have its SKU, in whatever case, not even an archived one."""

    async def create(command_id: str | None) -> ProductRead:
        product = await service.create(principal.id, body.fields(), command_id)
        response.headers["Location"] = f"/products/{product.id}"
        response.headers["ETag"] = _etag(product)
        return ProductRead.of(product)

    return await once(body, create)


@imports.post(
    "/import", response_model=ImportRead, openapi_extra=_IMPORT_BODY,
    responses=responses(*KEYS, TooLarge, Unsupported, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def import_products(
    request: Request,
    principal: CurrentPrincipal,
    service: Annotated[ProductImport, wired("products.imports")],
    once: CurrentOnce,
) -> ImportRead | Response:
    """Create or change up to 10 000 products by SKU, one per line of NDJSON or CSV.

    A row that cannot be taken is named in `errors` and stops no other. What a row does not say of a known product
    stays; an empty cell clears. In CSV tags are joined by `|`.
    """
    raw, content_type = await request.body(), request.headers.get("content-type", "")

    async def run(_: str | None) -> ImportRead:
        rows = await asyncio.to_thread(read_rows, content_type, raw)
        outcomes = await service.run(principal.id, rows)
        errors = [
            RowError(row=number, code=outcome)
            for number, outcome in enumerate(outcomes, 1)
            if outcome not in {"created", "updated"}
        ]
        count = Counter(outcomes)
        return ImportRead(created=count["created"], updated=count["updated"], failed=len(errors), errors=errors)

    return await once([content_type, sha256(raw).hexdigest()] if once.key else None, run)


@router.get("", response_model=ListRead[ProductRead], responses=responses(*KEYS, CursorInvalid, Invalid))
async def list_products(
    request: Request, response: Response, service: Service, cursors: CurrentCursors,
    filters: Annotated[Filters, Depends(_filters)], limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[ProductRead]:  # fmt: skip
    """All products, newest first, archived ones too. Filters that are given must all fit."""
    after = position_of(request, cursors, cursor, vars(filters))
    page = await service.list(filters, after, limit)
    return list_page(request, response, cursors, page, ProductRead.of, vars(filters), limit)


@router.get("/{product_id}", response_model=ProductRead, responses=responses(*KEYS, ProductNotFound))
async def get_product(product_id: str, request: Request, response: Response, service: Service) -> Any:
    """One product."""
    product = await service.read(product_id)
    return answer_with_etag(request, response, _etag(product), ProductRead.of(product))


@router.patch(
    "/{product_id}", response_model=ProductRead,
    responses=responses(
        *KEYS, ProductNotFound, SkuTaken, PreconditionFailed, PreconditionRequired, Invalid, Malformed
    ),
)  # fmt: skip
async def change_product(
    product_id: str, body: ProductUpdate, request: Request, response: Response,
    principal: CurrentPrincipal, service: Service,
) -> ProductRead:  # fmt: skip
    """Change the version that `If-Match` names; `*` is whichever there is."""
    product = await service.change(
        principal.id, product_id, body.fields(), lambda found: demand_match(request, _etag(found), required=True)
    )
    response.headers["ETag"] = _etag(product)
    return ProductRead.of(product)


@router.delete("/{product_id}", status_code=204, responses=responses(*KEYS, ProductNotFound, PreconditionFailed))
async def archive_product(product_id: str, request: Request, principal: CurrentPrincipal, service: Service) -> None:
    """Archive a product: it takes no more stock and keeps its SKU. With `If-Match` only in that version."""
    await service.archive(principal.id, product_id, lambda found: demand_match(request, _etag(found)))


def _etag(product: Product) -> str:
    return f'"v{product.version}"'
