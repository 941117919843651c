"""What can go wrong with stock, as clients are told."""

from core.errors import Conflict, NotFound, Unavailable, UpstreamFailed


class ProductNotFound(NotFound): ...


class ProductArchived(Conflict):
    title = "The product is archived"


class InsufficientStock(Conflict):
    title = "There is not enough stock for that"


class StockChanged(Conflict):
    title = "The stock is not what you expected"


class ReservationNotFound(NotFound):
    code = "not_found"


class ReservationClosed(Conflict):
    title = "The reservation is not active any more"


class CommandDone(Conflict):
    """Another run of the same command was there first: what it did is the answer."""


class StockBusy(Unavailable):
    """Out of time amid a change: nobody knows whether it took effect, so this is no Overloaded."""

    code = "overloaded"
    title = "Too many changes of the same stock at once"
    retry_after = 1


class CatalogUnavailable(Unavailable):
    title = "The product catalogue cannot be reached"
    is_refusal = True  # asked before anything is written


class CatalogRefused(UpstreamFailed):
    code = "upstream_failed"
    title = "The product catalogue gave no usable answer"
