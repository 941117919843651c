"""Secrets at rest: nothing but the right key, in the right record, opens one."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.security.keys import DerivedKeys
from core.security.secret_box import SealBroken, SecretBox

OLD_ROOT, NEW_ROOT = b"o" * 32, b"n" * 32


def box(*roots: bytes, purpose: str = "webhook-secret") -> SecretBox:
    return SecretBox(DerivedKeys(roots).derive(purpose))


@given(st.binary(max_size=200))
def test_what_was_sealed_comes_back_and_is_not_in_the_text(content: bytes) -> None:
    sealed = box(OLD_ROOT).seal(content, "whk_1")
    assert box(OLD_ROOT).open(sealed, "whk_1") == content
    assert len(content) < 8 or base64.b64encode(content).decode().rstrip("=")[:-1] not in sealed
    assert box(OLD_ROOT).seal(content, "whk_1") != sealed


def test_old_secrets_survive_a_rotation_of_the_root_and_new_ones_use_the_first() -> None:
    before, both, after = box(OLD_ROOT), box(NEW_ROOT, OLD_ROOT), box(NEW_ROOT)
    old = before.seal(b"secret", "whk_1")
    assert both.open(old, "whk_1") == b"secret"
    new = both.seal(b"secret", "whk_1")
    assert new.startswith(both.mark)
    assert both.mark == after.mark != before.mark
    assert after.open(new, "whk_1") == b"secret"
    with pytest.raises(SealBroken):
        after.open(old, "whk_1")


def test_a_secret_opens_in_its_own_record_and_for_its_own_purpose_only() -> None:
    sealed = box(OLD_ROOT).seal(b"secret", "whk_1")
    with pytest.raises(SealBroken):
        box(OLD_ROOT).open(sealed, "whk_2")
    with pytest.raises(SealBroken):
        box(OLD_ROOT, purpose="cursor").open(sealed, "whk_1")


@given(st.data())
def test_a_changed_or_cut_text_is_refused(data: st.DataObject) -> None:
    sealed = box(OLD_ROOT).seal(b"secret", "whk_1")
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(lambda text: text != sealed[at]))
    for text in (sealed[:at] + other + sealed[at + 1 :], sealed[:at], data.draw(st.text(max_size=40))):
        with pytest.raises(SealBroken):
            box(OLD_ROOT).open(text, "whk_1")
