"""What other modules may know of inventory."""

CHANGED, LOW = "stock.changed", "stock.low"
# Data of both: product_id, on_hand, reserved, available, threshold, low, seq, version; of a change also movement_id,
# kind, quantity, reservation_id, reason, reference.
