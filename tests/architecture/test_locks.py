"""The locks beyond their hashes, which `test_docker_files.py` checks: security-relevant libraries change on purpose."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASKED = (ROOT / "requirements-image.in").read_text("utf-8")
LOCKS = ["requirements-image.txt", "requirements.txt", "requirements-dev.txt"]
PINNED = ["argon2-cffi", "cryptography", "httpcore", "pypdfium2", "python-jose", "python-multipart"]
REFUSED = {
    "passlib", "fastapi-users", "slowapi", "fastapi-limiter", "python-magic", "filetype", "puremagic", "httpx-secure",
    "safehttpx",
}  # fmt: skip


def asked_version(name: str) -> str:
    found = re.search(rf"^{name}(?:\[[a-z,]+\])?==([0-9.]+)(?:\s|$)", ASKED, re.MULTILINE)
    assert found is not None, f"{name} is not pinned exactly in requirements-image.in"
    return found[1]


def locked_versions(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^ ;]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize("lock", LOCKS)
def test_what_security_rests_on_is_pinned_exactly_and_locked_so(name: str, lock: str) -> None:
    assert locked_versions(lock)[name] == asked_version(name)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_newer_than_the_known_holes_and_holds_nothing_that_was_refused(lock: str) -> None:
    versions = locked_versions(lock)
    floors = {"python-multipart": (0, 0, 31), "python-jose": (3, 4), "starlette": (1,)}
    for name, floor in floors.items():
        assert tuple(int(part) for part in versions[name].split(".")) >= floor, name
    assert not versions.keys() & REFUSED


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_agree(lock: str) -> None:
    """Tests and the local stack run what the image holds."""
    image, other = locked_versions("requirements-image.txt"), locked_versions(lock)
    assert {name: other.get(name) for name in image} == image
