"""Which places in S3 a folder may name as its source: one rule for whoever orders a scan and whoever runs it."""

import unicodedata
from collections.abc import Collection

from core.errors import Invalid
from core.object_keys import OWN_ROOT

MAX_KEY_BYTES = 1024
ANYWHERE = "*"


class SourceNotAllowed(Invalid):
    title = "This source may not be used"


class Sources:
    """The allowed buckets, and the prefix that confines each person."""

    def __init__(self, buckets: Collection[str], template: str | None) -> None:
        """`template`: `s3://imports/{user_id}/`, or `{user_id}/` in every bucket; `*` or None: no confinement."""
        self._buckets, self._template = buckets, template or ANYWHERE

    def check(self, source: str, user_id: str, *, pointer: str) -> None:
        """Raises SourceNotAllowed unless it is `s3://bucket/prefix/` in an allowed place outside of our own objects."""
        bucket, prefix = split_source(source)
        plain = not any(unicodedata.category(character).startswith("C") for character in source)
        if not (
            source.startswith("s3://")
            and bucket in self._buckets
            and plain
            and len(prefix.encode()) <= MAX_KEY_BYTES
            and (prefix == "" or prefix.endswith("/"))
            and not {"", ".", ".."} & set(prefix.split("/")[:-1])
            and not prefix.startswith(OWN_ROOT)
            and self._is_confined(source, prefix, user_id)
        ):
            raise SourceNotAllowed(pointer=pointer)

    def _is_confined(self, source: str, prefix: str, user_id: str) -> bool:
        if self._template == ANYWHERE:
            return True
        place = self._template.replace("{user_id}", user_id).rstrip("/") + "/"  # or `ada` would reach `adam`
        return (source if "://" in place else prefix).startswith(place)


def split_source(source: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix/`."""
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    return bucket, prefix
