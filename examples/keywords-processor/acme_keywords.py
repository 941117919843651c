"""A processor that any package can bring along: matched by its shape, it imports nothing from Dossier.

Importing this module must be cheap, since the API does it to list the processor; heavy imports go into `process`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SHORTEST = 5


class Keywords:
    """The words of five letters and more that occur most often."""

    name = "keywords"
    version = "1.0.0"
    description = "Most frequent words"
    content_types = frozenset({PDF, DOCX})
    options = None
    needs = ("extract",)  # its result is there before `process` is called
    env = ()
    limits = {"memory_mib": 256, "cpu_s": 20, "wall_s": 60}  # noqa: RUF012 - read, never changed

    def process(self, job: Any) -> Iterator[dict[str, Any]]:
        words: Counter[str] = Counter()
        for page in job.pages():
            words.update(word for word in page["text"].lower().split() if len(word) >= SHORTEST)
            yield {"ev": "progress", "done": page["number"], "total": job.page_count}
        yield {"ev": "result", "value": {"keywords": words.most_common(20)}}
