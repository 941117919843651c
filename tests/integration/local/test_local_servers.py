"""`start_servers`: the three servers answer, keep their data, and say clearly why they cannot start."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from mypy_boto3_s3 import S3Client
from pymongo import MongoClient, WriteConcern
from redis import Redis

from core.local.folder import LocalStackError, open_folder
from core.local.stack import Embedded, LocalServers, start_servers
from tests.integration.local.conftest import is_running


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    with start_servers(tmp_path_factory.mktemp("data")) as running:
        yield running


def s3_client(servers: LocalServers) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=servers.s3_endpoint_url,
        aws_access_key_id=servers.s3_access_key,
        aws_secret_access_key=servers.s3_secret_key,
        region_name=servers.s3_region,
    )


def test_mongodb_takes_majority_writes_and_transactions(servers: LocalServers) -> None:
    with MongoClient[dict[str, Any]](servers.mongo_url) as client:
        things = client.test.get_collection("things", write_concern=WriteConcern("majority"))
        things.insert_one({"_id": 1})
        with client.start_session() as session, session.start_transaction():
            things.insert_one({"_id": 2}, session=session)
            things.update_one({"_id": 1}, {"$set": {"seen": True}}, session=session)
        assert list(things.find(sort=[("_id", 1)])) == [{"_id": 1, "seen": True}, {"_id": 2}]


def test_redis_keeps_keys_and_never_evicts(servers: LocalServers) -> None:
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        client.set("key", "value")
        assert client.get("key") == "value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_s3_serves_objects_ranges_parts_and_presigned_links(servers: LocalServers) -> None:
    client, bucket = s3_client(servers), servers.s3_bucket
    client.put_object(Bucket=bucket, Key="a/b", Body=b"0123456789", ContentType="text/plain")
    assert client.get_object(Bucket=bucket, Key="a/b", Range="bytes=2-4")["Body"].read() == b"234"
    link = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/b"}, ExpiresIn=60)
    with urlopen(link, timeout=10) as answer:
        assert answer.read() == b"0123456789"
        assert answer.headers["Content-Type"] == "text/plain"
    upload = client.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    parts = [b"x" * (5 * 1024 * 1024), b"end"]
    done = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=number, Body=part)[
                "ETag"
            ],
        }
        for number, part in enumerate(parts, start=1)
    ]
    client.complete_multipart_upload(
        Bucket=bucket,
        Key="large",
        UploadId=upload,
        MultipartUpload={"Parts": done},  # type: ignore[typeddict-item]
    )
    assert client.get_object(Bucket=bucket, Key="large")["Body"].read() == b"".join(parts)
    client.close()


def test_a_stopped_or_killed_server_starts_again_on_its_port(servers: LocalServers) -> None:
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        client.set("stays", "here")
        servers.stop("redis")
        servers.start("redis")
        assert client.get("stays") == "here"
        servers.kill("redis")
        servers.start("redis")
        assert client.ping()


def test_data_survive_a_restart_on_other_ports(tmp_path: Path) -> None:
    with start_servers(tmp_path / "before") as servers:
        with MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
            mongo.test.things.insert_one({"_id": "kept"})
        with Redis.from_url(servers.redis_url) as redis:
            redis.set("kept", "yes")
        s3 = s3_client(servers)
        s3.put_object(Bucket=servers.s3_bucket, Key="kept", Body=b"yes")
        s3.close()
        pids = [servers.pid(name) for name in ("mongod", "redis", "s3")]
    assert not any(map(is_running, pids))
    # A folder may also be moved between two runs.
    (tmp_path / "before").rename(tmp_path / "after")
    with start_servers(tmp_path / "after") as again:
        assert again.mongo_url != servers.mongo_url
        with MongoClient[dict[str, Any]](again.mongo_url) as mongo:
            assert mongo.test.things.find_one() == {"_id": "kept"}
            mongo.test.things.insert_one({"_id": "more"})
        with Redis.from_url(again.redis_url) as redis:
            assert redis.get("kept") == b"yes"
        s3 = s3_client(again)
        assert s3.get_object(Bucket=again.s3_bucket, Key="kept")["Body"].read() == b"yes"
        s3.close()


def test_only_what_is_wanted_is_started(tmp_path: Path) -> None:
    with start_servers(tmp_path, Embedded(mongo=False, s3=False)) as servers:
        assert servers.redis_url
        assert servers.mongo_url == servers.s3_endpoint_url == servers.s3_secret_key == ""
        assert not (tmp_path / "mongo").exists()


def test_a_data_folder_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    only_redis = Embedded(mongo=False, s3=False)
    with start_servers(tmp_path, only_redis):
        with (
            pytest.raises(LocalStackError, match=f"in use by process {os.getpid()}"),
            start_servers(tmp_path),
        ):
            pass
        assert not open_folder(tmp_path).is_left()
    assert open_folder(tmp_path).is_left()


def test_a_server_that_ends_at_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(b"not what Redis wrote")
    with (
        pytest.raises(LocalStackError, match=r"redis ended at start, see .*redis\.log: .*[Bb]ad file format") as error,
        start_servers(tmp_path, Embedded(mongo=False, s3=False)),
    ):
        pass
    assert "\n" not in str(error.value)
    assert open_folder(tmp_path).is_left()


def test_a_data_folder_behind_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with start_servers(tmp_path / "link") as servers:
        assert servers.mongo_url
