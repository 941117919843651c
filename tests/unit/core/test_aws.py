"""What AWS asks of core: wake-ups while SQS is away, and credentials that are temporary."""

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from core.sqs import PAUSE_S, SqsWakeUps
from core.storage.s3 import S3FileStore, S3Options


class Away:
    asked = 0

    def send_message(self, **_: Any) -> None:
        self.asked += 1
        raise EndpointConnectionError(endpoint_url="https://sqs.test")


def test_after_a_failure_it_asks_nobody_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    away, dropped, now = Away(), [], [0.0]
    monkeypatch.setattr("boto3.client", lambda *_, **__: away)
    wake_ups = SqsWakeUps("https://sqs.test/q", "us-east-1", dropped=lambda: dropped.append(1), now=lambda: now[0])
    for now[0] in (0.0, PAUSE_S - 1, PAUSE_S):
        wake_ups.send("documents.process", ("doc_1", 1), queue="documents", request_id="")
    assert (away.asked, len(dropped)) == (2, 3)


async def test_temporary_credentials_sign_with_their_token() -> None:
    store = S3FileStore(S3Options("bucket", "https://s3.test", None, "id", "secret", "us-east-1", "the-token"))
    await store.open()
    assert "X-Amz-Security-Token=the-token" in await store.url("key", expires_s=60, headers={})
    await store.close()
