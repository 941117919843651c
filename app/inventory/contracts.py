"""What other modules may know of inventory."""

CHANGED, LOW = "stock.changed", "stock.low"
STOCK_EVENTS = frozenset({CHANGED, LOW})
# Data of both: product_id, on_hand, reserved, available, threshold, low, seq, version; of a change also movement_id,
# kind, quantity, reservation_id, reason, reference.
