"""What can go wrong with products."""

from core.errors import Conflict, NotFound


class ProductNotFound(NotFound):
    title = "There is no such product"


class SkuTaken(Conflict):
    title = "Another product has this SKU"
