from __future__ import annotations

import pytest

from app.documents.adapter.language import UNKNOWN, detect

SENTENCES = {
    "en": "The supplier delivers the goods within thirty days after the contract has been signed by both parties. ",
    "de": "Der Lieferant liefert die Ware innerhalb von dreißig Tagen, nachdem beide den Vertrag unterschrieben. ",
    "fr": "Le fournisseur livre les marchandises dans les trente jours qui suivent la signature du contrat. ",
    "es": "El proveedor entrega la mercancía dentro de los treinta días siguientes a la firma del contrato. ",
    "ru": "Поставщик передаёт товар в течение тридцати дней после подписания договора обеими сторонами. ",
}


@pytest.mark.parametrize(("language", "sentence"), SENTENCES.items())
def test_the_language_of_prose_is_known(language: str, sentence: str) -> None:
    assert detect(sentence * 4) == language


@pytest.mark.parametrize("text", ["", "short", "1234567890 " * 500, "!?. " * 500, SENTENCES["en"]])
def test_too_few_letters_have_no_language(text: str) -> None:
    assert detect(text) == UNKNOWN


def test_only_the_beginning_counts() -> None:
    assert detect("7 " * 10_000 + SENTENCES["en"] * 10) == UNKNOWN
