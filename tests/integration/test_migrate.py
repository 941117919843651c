"""Every process of an API in `local` prepares the databases when it starts, all of them at once."""

import asyncio

from app.modules import MODULES
from core.ids import random_token
from core.local.stack import LocalServers
from core.mongo import init_records, make_client


async def test_processes_that_start_together_prepare_the_same_databases(servers: LocalServers) -> None:
    prefix = f"t{random_token(48)}"
    records = {name: MODULES[name].records() for name in ("documents", "inventory")}
    clients = [make_client(servers.mongo_url, in_worker=False) for _ in range(4)]
    try:
        await asyncio.gather(*(init_records(client, prefix, records, build_indexes=True) for client in clients))
        made = await clients[0][f"{prefix}_inventory"].list_collections(filter={"name": "stock_levels"})
        assert "validator" in (await made.to_list())[0]["options"]
    finally:
        for name in records:
            await clients[0].drop_database(f"{prefix}_{name}")
        for client in clients:
            await client.close()
