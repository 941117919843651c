"""What must be there before a process starts or a command runs: looked at once, told in one line."""

from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from app.container import build_container
from app.runtime import migrate
from core.config import ConfigError, Settings
from core.exits import CannotGoOn
from core.mongo import make_client
from core.setting_types import server_of
from core.storage.base import FileMissing, StorageUnavailable

LONGEST_REASON = 200


async def require_mongo(settings: Settings) -> None:
    """A replica set that lets us in. Raises ConfigError and CannotGoOn."""
    if settings.mongo_url is None:
        raise ConfigError("MONGO_URL: must be set, or start with `python main.py --env local`")
    url = settings.mongo_url.get_secret_value()
    where = f"MONGO_URL: {server_of(url)}"
    try:
        client = make_client(url, in_worker=False)
        try:
            hello = await client.admin.command("hello")
        finally:
            await client.close()
    except (ConfigurationError, ValueError):  # their text may quote the URL
        raise ConfigError("MONGO_URL: is not a connection string that MongoDB's driver understands") from None
    except OperationFailure as error:
        reason = (error.details or {}).get("codeName", f"code {error.code}")
        raise CannotGoOn(f"{where} refuses us ({reason}); correct user and password") from None
    except PyMongoError as error:
        raise CannotGoOn(f"{where} does not answer ({_reason(error)}); start it or correct the setting") from None
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise CannotGoOn(f"{where} stands alone, and transactions need a replica set; start it with --replSet")


async def migrated(settings: Settings) -> None:
    """Collections and indexes are there. Raises ConfigError, CannotGoOn and Unavailable."""
    await require_mongo(settings)
    container = build_container(settings, "worker")
    try:
        await migrate(container)
    finally:
        await container.mongo().close()


async def require_storage(settings: Settings) -> None:
    """For commands that are nothing without it; API and workers wait for it. Raises CannotGoOn."""
    if not settings.needs_storage:
        return
    is_s3 = settings.storage_backend == "s3"
    setting = "S3_ENDPOINT_URL" if is_s3 else "STORAGE_LOCAL_PATH"
    where = (settings.s3_endpoint_url or "S3") if is_s3 else settings.storage_path
    files = build_container(settings, "api").files()
    try:
        await files.open()
        await files.ping()
    except FileMissing:
        raise CannotGoOn(f"S3_BUCKET: {where} has no bucket of this name; make it") from None
    except StorageUnavailable as error:
        reason = type(error.__cause__).__name__
        raise CannotGoOn(f"{setting}: {where} does not answer ({reason}); start it or correct the setting") from None
    finally:
        await files.close()


def _reason(error: PyMongoError) -> str:
    """What the driver says, without its configuration."""
    text = str(error).split(" (configured timeouts")[0].split(", Timeout:")[0]
    return " ".join(text.split())[:LONGEST_REASON]
