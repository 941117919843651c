"""The three embedded servers: how each is prepared, started and known to be ready."""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from core.local.folder import DataFolder, LocalStackError
from core.local.launch import Program
from core.local.programs import find_juicefs, find_minio, find_mongod, find_redis

MONGO_PORT = 27117
REDIS_PORT = 6479
S3_PORT = 9100
S3_REGION = "us-east-1"
SERVER_ORDER = 0


class Server(Protocol):
    """One embedded server on 127.0.0.1."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    def prepare(self) -> Program:
        """Make its folders; the program to start."""

    def answers(self) -> bool:
        """Whether it is ready; does what is left to do for that."""


@dataclass(frozen=True)
class MongoServer:
    """MongoDB as a replica set of one member, which transactions need."""

    folder: DataFolder
    port: int
    name: ClassVar[str] = "mongod"

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    @property
    def _data(self) -> Path:
        return self.folder.root / "mongo"

    def prepare(self) -> Program:
        self._data.mkdir(mode=0o700, exist_ok=True)
        command = [find_mongod(self.folder), "--dbpath", str(self._data), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", "rs0", "--oplogSize", "256"]
        command += ["--wiredTigerCacheSizeGB", "0.5"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        # What a killed process had begun holds its rows until then; none of ours takes longer.
        command += ["--setParameter", "transactionLifetimeLimitSeconds=10"]
        return _program(self.name, command, self.folder, self._data)

    def answers(self) -> bool:
        """Initiates the replica set, or moves its member to the port it has now."""
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        if not _listens(self.port):
            return False
        try:
            with MongoClient[dict[str, Any]](
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000
            ) as client:
                options = client.admin.command("getCmdLineOpts")
                if options["parsed"]["storage"]["dbPath"] != str(self._data):
                    return False
                hello = client.admin.command("hello")
                if "setName" not in hello:
                    self._join_replica_set(client)
                return hello["isWritablePrimary"] is True
        except PyMongoError:
            return False

    def _join_replica_set(self, client: Any) -> None:
        from pymongo.errors import OperationFailure

        host = f"127.0.0.1:{self.port}"
        try:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
        except OperationFailure as error:
            if error.details is None or error.details.get("codeName") != "AlreadyInitialized":
                raise
            config = client.admin.command("replSetGetConfig")["config"]
            if config["members"][0]["host"] != host:
                config["members"][0]["host"] = host
                config["version"] += 1
                client.admin.command("replSetReconfig", config, force=True)


@dataclass(frozen=True)
class RedisServer:
    """Redis, persistent."""

    folder: DataFolder
    port: int
    name: ClassVar[str] = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def _data(self) -> Path:
        return self.folder.root / "redis"

    def prepare(self) -> Program:
        self._data.mkdir(mode=0o700, exist_ok=True)
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._data), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        command = [find_redis(self.folder)]
        for name, value in options.items():
            command += [f"--{name}", value]
        return _program(self.name, command, self.folder, self._data)

    def answers(self) -> bool:
        from redis import Redis
        from redis.exceptions import RedisError

        if not _listens(self.port):
            return False
        try:
            with Redis(host="127.0.0.1", port=self.port, socket_timeout=1, decode_responses=True) as client:
                # Refused while it still loads its file; and it could be a stranger's server.
                return bool(client.config_get("dir") == {"dir": str(self._data)})
        except RedisError:
            return False


@dataclass(frozen=True)
class S3Server:
    """MinIO where it is installed, else its API in front of plain files by JuiceFS."""

    folder: DataFolder
    port: int
    access_key: str
    secret_key: str
    bucket: str
    name: ClassVar[str] = "s3"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Program:
        data = self.folder.root / "s3"
        data.mkdir(mode=0o700, exist_ok=True)
        minio = find_minio()
        # What one of the two has stored, the other cannot read.
        if minio and not (data / "meta.db").exists():
            command = [minio, "server", str(data / "minio"), "--address", f"127.0.0.1:{self.port}", "--quiet"]
        else:
            command = self._juicefs(data)
        env = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}
        return _program(self.name, command, self.folder, data, env)

    def _juicefs(self, data: Path) -> list[str]:
        juicefs = find_juicefs(self.folder)
        # Relative to its working folder, because a URL gives some characters of a path another meaning.
        meta, objects = "sqlite3://meta.db", f"{data}/objects/"
        if not (data / "meta.db").exists():
            store = ["--storage", "file", "--bucket", objects, "--trash-days", "0"]
            _run([juicefs, "format", *store, meta, "dossier"], data)
        command = [juicefs, "gateway", "--multi-buckets", "--keep-etag", "--object-meta"]
        command += ["--no-banner", "--no-usage-report"]
        # The folder may have been moved since it was formatted, so its place is said again.
        command += ["--bucket", objects, "--backup-meta", "0", "--metrics", "127.0.0.1:0"]
        command += ["--cache-dir", "memory", "--cache-size", "64M", "--buffer-size", "128M"]
        return [*command, meta, f"127.0.0.1:{self.port}"]

    def answers(self) -> bool:
        """Makes the bucket."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        if not _listens(self.port):
            return False
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=S3_REGION,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        try:
            if self.bucket not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True


def _run(command: list[str], data: Path) -> None:
    done = subprocess.run(command, cwd=data, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LocalStackError(f"cannot prepare the S3 store in {data}: {last}")


def last_words(path: Path) -> str:
    """The line of a server's log that most likely says why it ended."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    faults = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    return (faults or lines or ["empty log"])[-1][:500]


def _program(
    name: str, command: list[str], folder: DataFolder, cwd: Path, env: dict[str, str] | None = None
) -> Program:
    folder.rotate_log(name)
    return Program(name, command, SERVER_ORDER, env or {}, cwd, 15, folder.log_file(name))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
