"""Folders."""

import pytest

from tests.clients import Person, problem
from tests.corpus import pdfs


async def test_a_folder_lives_from_creation_to_deletion(ada: Person) -> None:
    created = await ada.post("/folders", json={"name": " Invoices "})
    assert created.status_code == 201
    folder = created.json()
    assert set(folder) == {"folder_id", "name", "source", "created_at", "updated_at"}
    assert (folder["name"], folder["source"]) == ("Invoices", None)
    path = f"/folders/{folder['folder_id']}"
    assert created.headers["location"] == path
    assert (await ada.get(path)).json() == folder

    renamed = await ada.call("PATCH", path, json={"name": "Bills"})
    assert renamed.json()["name"] == "Bills"
    assert [item["name"] for item in (await ada.get("/folders")).json()["items"]] == ["Bills"]
    assert (await ada.call("DELETE", path)).status_code == 204
    problem(await ada.get(path), 404, "not_found")
    problem(await ada.call("DELETE", path), 404, "not_found")


async def test_names_are_unique_per_person(ada: Person, bob: Person) -> None:
    first = (await ada.post("/folders", json={"name": "A"})).json()
    second = (await ada.post("/folders", json={"name": "B"})).json()
    problem(await ada.post("/folders", json={"name": "A"}), 409, "folder_exists")
    problem(await ada.call("PATCH", f"/folders/{second['folder_id']}", json={"name": "A"}), 409, "folder_exists")
    assert (await ada.call("PATCH", f"/folders/{first['folder_id']}", json={"name": "A"})).status_code == 200
    assert (await bob.post("/folders", json={"name": "A"})).status_code == 201


async def test_a_folder_with_documents_stays(ada: Person) -> None:
    folder = (await ada.post("/folders", json={"name": "Full"})).json()["folder_id"]
    document = await ada.uploaded(pdfs.pdf(["x"]), folder_id=folder)
    problem(await ada.call("DELETE", f"/folders/{folder}"), 409, "folder_not_empty")
    await ada.call("DELETE", f"/documents/{document['document_id']}")
    assert (await ada.call("DELETE", f"/folders/{folder}")).status_code == 204


async def test_a_stale_version_is_not_overwritten(ada: Person) -> None:
    path = "/folders/" + (await ada.post("/folders", json={"name": "One"})).json()["folder_id"]
    etag = (await ada.get(path)).headers["etag"]
    assert (await ada.get(path, headers={"If-None-Match": etag})).status_code == 304
    assert (await ada.call("PATCH", path, json={"name": "Two"}, headers={"If-Match": etag})).status_code == 200
    problem(
        await ada.call("PATCH", path, json={"name": "Three"}, headers={"If-Match": etag}), 412, "precondition_failed"
    )
    problem(await ada.call("DELETE", path, headers={"If-Match": etag}), 412, "precondition_failed")
    now = (await ada.get(path)).headers["etag"]
    assert (await ada.call("DELETE", path, headers={"If-Match": now})).status_code == 204


@pytest.mark.parametrize(
    "source",
    [
        "s3://other-bucket/x/", "https://dossier/x/", "s3://dossier/_dossier/", "s3://dossier/_dossier/originals/",
        "s3://dossier/a/../b/", "s3://dossier/no-slash", "s3://dossier//x/", "s3://dossier/a\u0007/", "dossier/x/",
    ],
)  # fmt: skip
async def test_a_source_outside_the_allowed_places_is_refused(ada: Person, source: str) -> None:
    problem(await ada.post("/folders", json={"name": "S", "source": source}), 422, "source_not_allowed")


async def test_a_source_in_an_allowed_bucket_is_kept(ada: Person) -> None:
    for number, source in enumerate(("s3://dossier/", "s3://dossier/imports/2026/")):
        answer = await ada.post("/folders", json={"name": f"S{number}", "source": source})
        assert (answer.status_code, answer.json()["source"]) == (201, source)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", None, 7])
async def test_a_name_that_does_not_fit_is_refused(ada: Person, name: object) -> None:
    problem(await ada.post("/folders", json={"name": name}), 422, "validation_failed")


async def test_someone_elses_folder_is_not_there(ada: Person, bob: Person) -> None:
    path = "/folders/" + (await ada.post("/folders", json={"name": "Private"})).json()["folder_id"]
    problem(await bob.get(path), 404, "not_found")
    problem(await bob.get(f"{path}/documents"), 404, "not_found")
    problem(await bob.call("PATCH", path, json={"name": "Mine"}), 404, "not_found")
    problem(await bob.call("DELETE", path), 404, "not_found")
    problem(await bob.upload(pdfs.pdf(["x"]), folder_id=path.removeprefix("/folders/")), 404, "not_found")
    assert (await bob.get("/folders")).json()["items"] == []
