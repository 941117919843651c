"""Which places in S3 a folder may name as its source."""

import unicodedata
from collections.abc import Collection

from core.object_keys import OWN_ROOT

MAX_KEY_BYTES = 1024


def allowed_source(source: str, buckets: Collection[str]) -> bool:
    """Whether `s3://bucket/prefix/` names an allowed bucket and a plain prefix outside of our own objects."""
    scheme, _, rest = source.partition("://")
    bucket, _, prefix = rest.partition("/")
    plain = not any(unicodedata.category(character).startswith("C") for character in source)
    return (
        scheme == "s3"
        and bucket in buckets
        and plain
        and len(prefix.encode()) <= MAX_KEY_BYTES
        and (prefix == "" or prefix.endswith("/"))
        and not {"", ".", ".."} & set(prefix.split("/")[:-1])
        and not prefix.startswith(OWN_ROOT)
    )
