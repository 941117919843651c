"""Who puts documents into a folder, and who removes it at the same time: never does a document name what is gone."""

import asyncio
import io
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.application.library import CheckedUpload, Library, OnDuplicate, Upload
from app.documents.domain.document import Document
from app.documents.domain.errors import DocumentNotFound, DuplicateDocument
from app.documents.domain.ports import Runs
from app.folders.adapter.mongo import MongoFolders
from app.folders.application import service
from app.folders.application.service import FolderService
from app.folders.domain.errors import FolderNotEmpty, FolderNotFound
from core.clock import utc_now
from core.errors import AppError, PreconditionFailed
from core.ids import id_for, new_id, random_token

OWNER = "usr_1"


class Storage:
    """Keeps nothing, and takes its time for it."""

    pause_s = 0.0

    async def put(self, *_: object) -> None:
        await asyncio.sleep(self.pause_s)

    async def delete(self, *_: object) -> None: ...


@dataclass
class Office:
    """One process."""

    folders: FolderService
    library: Library
    stored: MongoFolders = field(default_factory=MongoFolders)

    async def folder(self) -> str:
        return (await self.folders.create(OWNER, name=random_token(), source=None)).id

    async def upload(
        self, folder_id: str | None, sha256: str = "f", on_duplicate: OnDuplicate = "allow", command: str | None = None
    ) -> tuple[Document, bool]:
        checked = CheckedUpload("application/pdf", 1, sha256)
        upload = Upload(io.BytesIO(b"x"), "a.pdf", checked, folder_id, None, {}, on_duplicate)
        return await self.library.upload(OWNER, upload, command)

    async def move(self, document: Document, folder_id: str) -> Document:
        fields = {"folder_id": folder_id, "filename": "moved.pdf"}
        return await self.library.change(OWNER, document.id, fields, lambda _: None)

    async def remove(self, folder_id: str) -> None:
        await self.folders.remove(OWNER, folder_id, demand=lambda _: None)

    async def dies_removing(self, folder_id: str) -> str:
        """Marked, and no more."""
        assert await self.stored.mark(await self.stored.get(folder_id, OWNER), "dead")
        return folder_id


@pytest.fixture
def office(database: str, runs: Runs) -> Office:
    documents, files = MongoDocuments(utc_now), Storage()
    nothing: Any = None
    folders = FolderService(MongoFolders(), documents, utc_now, nothing)
    return Office(folders, Library(documents, runs, files, folders, utc_now))  # type: ignore[arg-type]


async def outcome(work: Awaitable[object]) -> str:
    try:
        await work
    except AppError as error:
        return error.code
    return "done"


async def inside(folder_id: str) -> int:
    return await DocumentRecord.rows().count_documents({"folder_id": folder_id, "deleted_at": None})


async def test_no_document_names_a_folder_that_was_removed_at_the_same_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for number in range(60):
        monkeypatch.setattr(Storage, "pause_s", number % 12 / 2000)
        folder_id, (loose, _) = await office.folder(), await office.upload(None)
        putting = [outcome(office.upload(folder_id)) for _ in range(4)]
        if number % 2:
            putting.append(outcome(office.move(loose, folder_id)))
        removing = outcome(office.remove(folder_id))
        if number % 3:
            gone, *put = await asyncio.gather(removing, *putting)
        else:
            *put, gone = await asyncio.gather(*putting, removing)
        done = put.count("done")
        assert {*put} <= {"done", "not_found"}
        assert gone == ("folder_not_empty" if done else "done")
        assert await inside(folder_id) == done
        assert await office.folders.exists(folder_id, OWNER) == bool(done)
        seen.add(gone)
    assert seen == {"done", "folder_not_empty"}


async def test_a_document_that_cannot_move_stays_as_it_was(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    home, target = await office.folder(), await office.folder()
    document, _ = await office.upload(home)
    update = MongoDocuments.update

    async def late(self: MongoDocuments, *given: Any) -> Document | None:
        """Between the first look and the writing the folder goes."""
        monkeypatch.setattr(MongoDocuments, "update", update)
        await office.remove(target)
        return await update(self, *given)

    monkeypatch.setattr(MongoDocuments, "update", late)
    with pytest.raises(DocumentNotFound):
        await office.move(document, target)
    now = await office.library.get(OWNER, document.id)
    assert (now.folder_id, now.filename) == (home, "a.pdf")


async def test_a_repeat_of_an_upload_whose_folder_is_gone_takes_it_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_id = await office.folder()
    document, _ = await office.upload(folder_id, command="cmd_1")  # and its process died before it looked again
    await MongoFolders().remove(await office.folders.get(OWNER, folder_id))
    with pytest.raises(DocumentNotFound):
        await office.upload(folder_id, command="cmd_1")
    assert document.id == id_for("doc", "cmd_1")
    assert await inside(folder_id) == 0


async def test_of_many_who_remove_a_folder_one_does(office: Office) -> None:
    folder_id = await office.folder()
    outcomes = await asyncio.gather(*(outcome(office.remove(folder_id)) for _ in range(8)))
    assert sorted(outcomes) == ["done", *["not_found"] * 7]


async def test_a_process_that_dies_while_it_removes_a_folder_holds_up_nobody(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_S", 0.001)
    await office.upload(await office.dies_removing(await office.folder()))
    folder_id = await office.dies_removing(await office.folder())
    await office.remove(folder_id)
    with pytest.raises(FolderNotFound):
        await office.folders.get(OWNER, folder_id)


async def test_who_was_taken_for_dead_removes_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_S", 0.001)
    folder_id = await office.folder()
    look = MongoDocuments.has_documents

    async def slow(self: MongoDocuments, *asked: str) -> bool:
        """Its own look is over when somebody else loses patience."""
        found = await look(self, *asked)
        monkeypatch.setattr(MongoDocuments, "has_documents", look)
        await office.upload(folder_id)
        return found

    monkeypatch.setattr(MongoDocuments, "has_documents", slow)
    with pytest.raises(FolderNotEmpty):
        await office.remove(folder_id)
    assert await inside(folder_id) == 1


async def test_a_folder_that_changes_while_it_is_looked_at_is_not_removed_under_a_demand(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_id = await office.folder()
    look = MongoDocuments.has_documents

    async def renamed_meanwhile(self: MongoDocuments, *asked: str) -> bool:
        monkeypatch.setattr(MongoDocuments, "has_documents", look)
        await office.folders.rename(OWNER, folder_id, name="other", demand=lambda _: None)
        return await look(self, *asked)

    def first_version(folder: Any) -> None:
        if folder.version != 1:
            raise PreconditionFailed

    monkeypatch.setattr(MongoDocuments, "has_documents", renamed_meanwhile)
    with pytest.raises(PreconditionFailed):
        await office.folders.remove(OWNER, folder_id, demand=first_version)
    assert (await office.folders.get(OWNER, folder_id)).name == "other"


@pytest.mark.parametrize(("on_duplicate", "others"), [("reject", "duplicate_document"), ("return", "done")])
async def test_of_many_uploads_that_want_no_second_one_at_a_time_one_is_stored(
    office: Office, on_duplicate: OnDuplicate, others: str
) -> None:
    sha256 = random_token()
    uploads = [outcome(office.upload(None, sha256, on_duplicate)) for _ in range(8)]
    assert sorted(await asyncio.gather(*uploads)) == sorted(["done", *[others] * 7])
    assert await DocumentRecord.rows().count_documents({"sha256": sha256}) == 1


async def test_a_repeated_command_gets_its_own_document_and_not_a_duplicate(office: Office) -> None:
    command = new_id("cmd")
    first, _ = await office.upload(None, "once", "reject", command)
    assert await office.upload(None, "once", "reject", command) == (first, True)


async def test_a_document_that_was_deleted_is_no_duplicate(office: Office) -> None:
    first, _ = await office.upload(None, "again", "reject")
    with pytest.raises(DuplicateDocument):
        await office.upload(None, "again", "reject")
    await office.library.remove(OWNER, first.id)
    assert (await office.upload(None, "again", "reject"))[1]


async def test_a_document_that_changes_before_it_is_deleted_is_not_deleted_under_a_demand(
    office: Office, runs: Runs
) -> None:
    document, _ = await office.upload(None)
    await office.library.change(OWNER, document.id, {"filename": "b.pdf"}, lambda _: None)
    assert await runs.remove(document.id, OWNER, document.version) is None
    assert await runs.remove(document.id, OWNER, document.version + 1) is not None
