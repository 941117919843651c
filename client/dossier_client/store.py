"""What outlives a crash: the session, and which uploads are under way."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dossier_client.http import Tokens


@dataclass(frozen=True)
class Started:
    """An upload under way; `key` makes its first request repeatable, the rest is known once that was answered."""

    key: str
    upload_id: str | None = None
    part_size: int | None = None


class Store:
    """A folder of small files that only their owner can read: `$DOSSIER_HOME`, or `~/.config/dossier`."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or Path(os.environ.get("DOSSIER_HOME") or Path.home() / ".config" / "dossier")

    def tokens(self) -> Tokens | None:
        found = self._read("session.json")
        return None if found is None else Tokens(**found)

    def save_tokens(self, tokens: Tokens) -> None:
        self._write("session.json", asdict(tokens))

    def started(self, server: str, path: Path, about: object, new_key: str) -> tuple[str, Started]:
        """Name and state of the upload of this file, as it is now; begun with `new_key` where there is none."""
        now = path.stat()
        told = json.dumps([server, str(path.resolve()), now.st_size, now.st_mtime_ns, about], sort_keys=True)
        name = f"upload-{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"
        found = self._read(name)
        if found is not None:
            return name, Started(**found)
        started = Started(new_key)
        self._write(name, asdict(started))
        return name, started

    def save_upload(self, name: str, started: Started, upload_id: str, part_size: int | None) -> Started:
        started = replace(started, upload_id=upload_id, part_size=part_size)
        self._write(name, asdict(started))
        return started

    def forget(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self._root / name).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def _write(self, name: str, content: object) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._root / f".{name}.{os.getpid()}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
        draft.replace(self._root / name)
