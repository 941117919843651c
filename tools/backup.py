"""MongoDB into a folder and back, where mongodump is not at hand; its layout, so mongorestore reads it too.

    APP_ENV=prod python -m tools.backup dump FOLDER
    APP_ENV=prod python -m tools.backup restore FOLDER

All databases are read as they were at one moment, which MongoDB keeps for five minutes: for a few gigabytes, not for
more (docs/backup.md). A restore wants `main.py migrate` first and refuses a database that holds rows.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from app.modules import MODULES
from core.config import ConfigError, load_settings

BATCH = 500
RAW = CodecOptions(document_class=RawBSONDocument)


class NotEmpty(Exception):
    """There are rows already; a restore never mixes two histories."""


def dump(client: MongoClient[Any], prefix: str, folder: Path) -> None:
    """Writes `<database>/<collection>.bson` for every collection."""
    collections = [(name, each) for name in _databases(prefix) for each in sorted(client[name].list_collection_names())]
    with client.start_session(snapshot=True) as session:
        for name, collection in collections:
            path = folder / name / f"{collection}.bson"
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.writelines(client[name][collection].find_raw_batches(session=session, sort=[("_id", 1)]))


def restore(client: MongoClient[Any], prefix: str, folder: Path) -> None:
    """Puts back every row as it was. Raises NotEmpty before it changes anything."""
    for name in _databases(prefix):
        if any(client[name][each].find_one({}, {"_id": 1}) for each in client[name].list_collection_names()):
            raise NotEmpty(name)
    for path in sorted(path for name in _databases(prefix) for path in (folder / name).glob("*.bson")):
        rows = client[path.parent.name].get_collection(path.stem, RAW)
        for batch in _batches(path):
            rows.insert_many(batch)


def _databases(prefix: str) -> list[str]:
    return [f"{prefix}_{module}" for module in MODULES]


def _batches(path: Path) -> Iterator[list[RawBSONDocument]]:
    with path.open("rb") as file:
        documents = bson.decode_file_iter(file, RAW)
        while batch := list(islice(documents, BATCH)):
            yield batch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.backup")
    parser.add_argument("what", choices=["dump", "restore"])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    try:
        settings = load_settings()
        if settings.mongo_url is None:
            raise ConfigError("MONGO_URL: must be set")
        with MongoClient[Any](settings.mongo_url.get_secret_value(), w="majority", journal=True) as client:
            (dump if asked.what == "dump" else restore)(client, settings.mongo_db, asked.folder)
    except ConfigError as error:
        sys.exit("\n".join(error.lines))
    except NotEmpty as error:
        sys.exit(f"{error}: holds rows, nothing was changed")
    except FileExistsError as error:
        sys.exit(f"{error.filename}: is there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
