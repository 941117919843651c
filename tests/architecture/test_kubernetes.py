"""The Kubernetes manifests: valid by Kubernetes' own schemas, and true to the application; no cluster is needed."""

import io
import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values
from pydantic import SecretStr
from typer.testing import CliRunner

import main
from core.celery import QUEUES
from core.config import ConfigError, Settings, load_settings
from core.http.system import system_routes
from core.security.tokens import load_signing_keys

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
EXAMPLE = K8S / "overlays" / "example"
OLDEST, NEWEST = "1.30", "1.37"  # `sleep` before a stop is on from 1.30
SECRETS = "/run/secrets/"
PRIVATE = ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]  # link-local: metadata of clouds


def objects_of(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(text) if found]


FILES = sorted(K8S.rglob("*.yaml"))
OBJECTS = [
    found for file in FILES if file.name != "kustomization.yaml" for found in objects_of(file.read_text("utf-8"))
]
BY_NAME = {(found["kind"], found["metadata"]["name"]): found for found in OBJECTS}
PODS = {
    found["metadata"]["name"].removeprefix("dossier-"): found["spec"]["template"]["spec"]
    for found in OBJECTS
    if found["kind"] in {"Deployment", "Job"}
}
SETTINGS = dotenv_values(stream=io.StringIO((K8S / "base" / "settings.env").read_text("utf-8")))
every_pod = pytest.mark.parametrize("name", PODS)


def named(kind: str, name: str) -> dict[str, Any]:
    return BY_NAME[kind, name]


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    found: dict[str, Any] = only
    return found


def is_secret(setting: str) -> bool:
    field = Settings.model_fields[setting.lower()]
    return SecretStr in (field.annotation, *get_args(field.annotation))


def validate(found: dict[str, Any], version: str) -> None:  # KEDA's own kind has no schema there
    if found["kind"] != "ScaledObject":
        kubernetes_validate.validate(found, version, strict=True)


# Form


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("found", OBJECTS, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_an_object_is_valid_by_the_schemas_of_kubernetes(found: dict[str, Any], version: str) -> None:
    validate(found, version)


@pytest.mark.parametrize("file", sorted(K8S.rglob("kustomization.yaml")), ids=lambda file: file.parent.name)
def test_a_kustomization_names_each_file_beside_it_and_nothing_that_is_not_there(file: Path) -> None:
    told = yaml.safe_load(file.read_text("utf-8"))
    generated = [env for each in told.get("configMapGenerator", []) for env in each.get("envs", [])]
    assert {*told["resources"], *generated} >= {each.name for each in file.parent.iterdir()} - {file.name}
    assert all((file.parent / each).exists() for each in (*told["resources"], *told.get("components", []), *generated))


def test_the_example_can_be_built() -> None:
    """By kubectl's own word where it is installed, else by the names that the objects use of each other."""
    configs = {each["configMapRef"]["name"] for name in PODS for each in container(name)["envFrom"]}
    generated = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text("utf-8"))["configMapGenerator"]
    assert configs == {each["name"] for each in generated}
    for built in built_by_kubectl():
        validate(built, NEWEST)
        assert built["kind"] == "Namespace" or built["metadata"]["namespace"] == "dossier"
        assert "image: dossier\n" not in yaml.safe_dump(built)


def built_by_kubectl() -> Iterator[dict[str, Any]]:
    try:
        built = subprocess.run(["kubectl", "kustomize", EXAMPLE], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return
    assert built.returncode == 0, built.stderr
    yield from objects_of(built.stdout)


# Settings and secrets


def test_every_environment_variable_is_a_setting_and_none_is_a_secret() -> None:
    overlay = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text("utf-8"))
    given = [*SETTINGS, *(line.split("=")[0] for each in overlay["configMapGenerator"] for line in each["literals"])]
    assert not any("env" in container(name) for name in PODS)
    for name in given:
        setting = name.removesuffix("_FILE")
        assert setting.lower() in Settings.model_fields, name
        assert is_secret(setting) == name.endswith("_FILE"), name


def test_every_secret_is_mounted_and_has_a_placeholder() -> None:
    wanted = {value.removeprefix(SECRETS) for value in SETTINGS.values() if value and value.startswith(SECRETS)}
    assert named("Secret", "dossier")["stringData"].keys() == wanted
    for name, pod in PODS.items():
        volumes = {each["name"]: each for each in pod["volumes"]}
        (mount,) = [each for each in container(name)["volumeMounts"] if each["mountPath"] == SECRETS.rstrip("/")]
        assert mount["readOnly"] is True
        assert volumes[mount["name"]]["secret"] == {"secretName": "dossier", "defaultMode": 0o440}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real secrets, which the settings name."""
    folder = tmp_path / "secrets"
    subprocess.run([ROOT / "docker" / "make-secrets.sh", folder], check=True, capture_output=True)
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, str(value).replace(SECRETS, f"{folder}/"))
    return folder


@pytest.mark.usefixtures("made")
def test_prod_starts_with_the_secrets_that_are_made() -> None:
    assert load_signing_keys(load_settings("prod").jwt_private_keys)


@pytest.mark.parametrize("placeholder", named("Secret", "dossier")["stringData"])
def test_prod_refuses_each_placeholder(placeholder: str, made: Path) -> None:
    (made / placeholder).chmod(0o600)
    (made / placeholder).write_text(named("Secret", "dossier")["stringData"][placeholder])
    (setting,) = [name for name, value in SETTINGS.items() if value == SECRETS + placeholder]
    with pytest.raises(ConfigError, match=f"^{setting.removesuffix('_FILE')}"):
        load_signing_keys(load_settings("prod").jwt_private_keys)


# Pods


@every_pod
def test_a_pod_is_confined(name: str) -> None:
    pod, inside = PODS[name], container(name)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert inside == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert {key for volume in pod["volumes"] for key in volume} == {"name", "emptyDir", "secret"}


@every_pod
def test_a_pod_has_limits_and_a_folder_for_what_may_vanish(name: str) -> None:
    resources = container(name)["resources"]
    assert resources["limits"].keys() == resources["requests"].keys() == {"cpu", "memory"}
    assert SETTINGS["DATA_DIR"] == "/tmp"
    (folder,) = [volume["emptyDir"] for volume in PODS[name]["volumes"] if "emptyDir" in volume]
    assert "sizeLimit" in folder


@every_pod
def test_a_command_is_one_of_the_command_line(name: str) -> None:
    assert "command" not in container(name)  # the image's own: python main.py --env prod
    assert CliRunner().invoke(main.cli, ["--env", "prod", *container(name)["args"], "--help"]).exit_code == 0


def test_the_pods_are_the_roles_and_their_queues_all_queues() -> None:
    roles = {name: container(name)["args"][1] for name in PODS if container(name)["args"][0] == "--role"}
    assert roles == {"api": "api", "worker": "worker", "courier": "worker", "beat": "beat"}
    taken = [queue for name in ("worker", "courier") for queue in option(name, "--queues").split(",")]
    assert sorted(taken) == sorted(QUEUES)
    assert option("worker", "--queues").startswith("documents")


def option(name: str, flag: str) -> str:
    args: list[str] = container(name)["args"]
    return args[args.index(flag) + 1]


@pytest.mark.parametrize("name", ["worker", "courier"])
def test_a_worker_does_not_count_the_cores_of_its_node(name: str) -> None:
    assert option(name, "--workers") == container("worker")["resources"]["limits"]["cpu"]


def test_probes_ask_what_the_api_answers() -> None:
    paths = {getattr(route, "path", "") for route in system_routes("x", "1", docs=False)}
    api = container("api")
    asked = {kind: api[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: get["path"] for kind, get in asked.items()} == {
        "startup": "/health", "readiness": "/health/ready", "liveness": "/health",
    }  # fmt: skip
    assert paths >= {get["path"] for get in asked.values()}
    assert [port["name"] for port in api["ports"]] == [asked["readiness"]["port"]]
    annotations = named("Deployment", "dossier-api")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] in paths


@pytest.mark.parametrize("name", ["worker", "courier"])
def test_the_probe_of_a_worker_asks_for_it_by_its_name(name: str) -> None:
    (said,) = [word for word in container(name)["livenessProbe"]["exec"]["command"] if "celery" in word]
    assert f"--destination={option(name, '--role')}@$HOSTNAME" in said
    assert "f\"--hostname={os.environ['DOSSIER_SERVICE']}@%h\"" in (ROOT / "main.py").read_text("utf-8")


def test_work_in_hand_gets_the_time_to_end() -> None:
    graceful = re.search(r"timeout_graceful_shutdown=(\d+)", (ROOT / "main.py").read_text("utf-8"))
    assert graceful is not None
    before = container("api")["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = container("api")["readinessProbe"]
    assert before >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert before + int(graceful[1]) < PODS["api"]["terminationGracePeriodSeconds"] == 40
    assert {PODS[name]["terminationGracePeriodSeconds"] for name in ("worker", "courier")} == {40}


# How many


def test_there_are_two_of_each_but_one_beat() -> None:
    specs = [(each["metadata"]["name"], each.get("spec", {})) for each in OBJECTS]
    fewest = {(name, spec[key]) for name, spec in specs for key in ("minReplicas", "minReplicaCount") if key in spec}
    assert fewest == {("dossier-api", 2), ("dossier-worker", 2)}
    counts = {name: spec["replicas"] for name, spec in specs if "replicas" in spec}
    assert counts == {"dossier-courier": 2, "dossier-beat": 1}  # a number here would undo what a scaler decided
    assert named("Deployment", "dossier-beat")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_roll_out_never_takes_one_away_before_another_is_there() -> None:
    for name in ("api", "worker", "courier"):
        rolling = named("Deployment", f"dossier-{name}")["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
        budget = named("PodDisruptionBudget", f"dossier-{name}")["spec"]
        assert budget["maxUnavailable"] == 1


def test_workers_are_scaled_on_the_age_of_what_waits() -> None:
    triggers = named("ScaledObject", "dossier-worker")["spec"]["triggers"]
    assert triggers[0]["metadata"]["query"] == 'max(backlog_oldest_seconds{kind="queued_runs"})'


def test_every_selector_finds_pods() -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in OBJECTS if "template" in each.get("spec", {})]
    selectors = [
        selector.get("matchLabels", selector)
        for each in OBJECTS
        for key in ("selector", "podSelector")
        if (selector := each.get("spec", {}).get(key))
    ]
    assert len(selectors) > 8
    assert all(any(selector.items() <= pod.items() for pod in labels) for selector in selectors)


# Network


def test_only_the_courier_has_a_way_out() -> None:
    policies = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
    ways: dict[str, list[str]] = {}
    for policy in policies:
        who = policy["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "all")
        peers = [peer for rule in policy.get("egress", []) for peer in rule["to"]]
        ways.setdefault(who, []).extend(peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer)
    assert all(any(ip_network(way).subnet_of(ip_network(net)) for net in PRIVATE) for way in ways["all"])  # type: ignore[arg-type]
    assert {who for who, out in ways.items() if who != "all" and out} == {"courier"}
    assert policies[0]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies[0]


def test_the_courier_reaches_nobody_inside() -> None:
    (rule,) = named("NetworkPolicy", "dossier-courier")["spec"]["egress"]
    assert set(PRIVATE) <= set(rule["to"][0]["ipBlock"]["except"])


def test_the_ingress_hides_the_metrics() -> None:
    (rule,) = named("Ingress", "dossier")["spec"]["rules"]
    closed = {each["path"] for each in rule["http"]["paths"] if each["backend"]["service"]["name"] == "dossier-nobody"}
    assert closed == {"/metrics", "/v1/metrics"}
    assert "selector" not in named("Service", "dossier-nobody")["spec"]
