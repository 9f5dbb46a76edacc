"""The deployment files are taken by the tools that will read them, and agree with the code and with each other."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import free_port
from streams.broker_runtime import POM, find_java, kafka_jars
from streams.broker_settings import server_properties
from streams.kafka import PLAIN_NETWORK
from streams.services import SERVICES

DOCKER = Path(__file__).parents[2] / "docker"
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    """Return where a tool of tests/tools.sh is; without it the test fails."""
    found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert found, f"{name} is missing: run `make tools`"
    return found


def run(name: str, *words: str | Path, cwd: Path = DOCKER) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name), *words], cwd=cwd, capture_output=True, text=True, check=False)


def dns_name(service: str) -> str:
    return service.replace("_", "-")


# images


@pytest.mark.parametrize("path", ["Dockerfile", "kafka/Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    done = run("hadolint", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_builder_is_sent_what_the_image_is_made_of() -> None:
    sent = {line[1:] for line in (DOCKER.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {"flexbus", "clearing", "streams", "adapters", "schemas"}
    assert packages | {"pyproject.toml", "requirements.lock", "README.md", "LICENSE"} <= sent
    assert POM.resolve() == (DOCKER / "kafka" / "pom.xml").resolve()
    assert "docker/kafka" in sent, "the package's pom.xml is a link into it"


@pytest.mark.parametrize(("listen", "loud"), [(None, True), ("10.0.0.7:9092", True), ("127.0.0.1:9092", False)])
def test_the_containers_kafka_says_that_it_is_plain(tmp_path: Path, listen: str | None, loud: bool) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 0 && exit 0\n")
    java.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KAFKA_HOME": str(DOCKER / "kafka")}
    environment |= {"KAFKA_DATA": str(tmp_path)} | ({"LISTEN": listen} if listen else {})
    done = subprocess.run([DOCKER / "kafka" / "start.sh"], env=environment, capture_output=True, text=True, check=True)
    assert ("WARNING: PLAIN MODE" in done.stderr) == loud
    for page in re.findall(r"docs/\S+\.md", done.stderr):
        assert (DOCKER.parent / page).is_file()


def test_what_the_images_run_exists() -> None:
    dockerfile = (DOCKER / "kafka" / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?:--chmod=\S+ )?(?!--from)(.+)$", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (DOCKER / "kafka" / source).exists(), source
    assert os.access(DOCKER / "kafka" / "start.sh", os.X_OK)


def test_the_image_holds_every_file_of_the_packages_and_nothing_of_the_tests(tmp_path: Path) -> None:
    """The builder's own step, on what the builder is sent."""
    sent = [line[1:] for line in (DOCKER.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    context, target = tmp_path / "context", tmp_path / "image"
    for path in sent:
        source = DOCKER.parent / path
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, context / path, ignore=ignored, symlinks=True)
        else:
            shutil.copy(source, context / path)
    (step,) = re.findall(r"^RUN uv pip install .*", (DOCKER / "Dockerfile").read_text(), re.M)
    words = step.removeprefix("RUN uv ").replace("--no-cache ", "").split()
    words[words.index("/opt/flexbus/bin/python")] = str(target / "bin" / "python")
    for command in (["venv", "-q", "--python", sys.executable, str(target)], words):
        done = run("uv", *command, cwd=context)
        assert done.returncode == 0, done.stderr

    site = next((target / "lib").glob("python*/site-packages"))
    missing = [
        str(path.relative_to(context))
        for package in ("flexbus", "clearing", "streams", "adapters", "schemas")
        for path in (context / package).rglob("*")
        if path.is_file() and not (site / path.relative_to(context)).is_file()
    ]
    assert missing == [], "name them in pyproject.toml's package-data"
    assert (site / "streams" / "pom.xml").read_bytes() == POM.read_bytes()
    assert not (site / "pytest").exists()
    helped = subprocess.run([target / "bin" / "flexbus", "run", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert "--listen" in helped.stdout, helped.stderr


def test_kafka_in_a_container_has_the_settings_of_the_local_one() -> None:
    container = dict(
        line.split("=", 1)
        for line in (DOCKER / "kafka" / "server.properties").read_text().splitlines()
        if line and not line.startswith("#")
    )
    local = {k: str(v) for k, v in server_properties(Path("/data"), port=1, controller_port=2).items()}
    # set by start.sh, or a matter of the machine's size
    other = {"log.dirs", "listeners", "advertised.listeners", "controller.quorum.voters", "num.network.threads"}
    other |= {"num.io.threads", "log.cleaner.dedupe.buffer.size", "offsets.topic.num.partitions"}
    other |= {"transaction.state.log.num.partitions"}
    assert {k: v for k, v in container.items() if k not in other} == {k: v for k, v in local.items() if k not in other}


@pytest.mark.kafka
def test_the_start_script_of_the_image_makes_a_kafka_that_keeps_its_data(tmp_path: Path) -> None:
    """The image's own script, settings and jars, without the container around them."""
    java = find_java()
    port = free_port()
    controller = free_port(besides=port)
    environment = {
        "PATH": f"{java.parent}{os.pathsep}{os.environ['PATH']}",
        "KAFKA_HOME": str(DOCKER / "kafka"),
        "KAFKA_JARS": str(kafka_jars()),
        "KAFKA_DATA": str(tmp_path),
        "LISTEN": f"127.0.0.1:{port}",
        "CONTROLLER": f"127.0.0.1:{controller}",
        "ADVERTISED": f"127.0.0.1:{port}",
        "KAFKA_HEAP": "-Xms64m -Xmx256m",
    }

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log.txt").open("ab") as log:
            process = subprocess.Popen([DOCKER / "kafka" / "start.sh"], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
            assert time.monotonic() < deadline
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return process
            except OSError:
                time.sleep(0.2)

    client = {"bootstrap.servers": f"127.0.0.1:{port}"}
    kafka = start()
    try:
        admin = AdminClient(client)
        admin.create_topics([NewTopic("t", 1, 1)], operation_timeout=30)["t"].result(60)
        producer = Producer(client)
        producer.produce("t", b"kept")
        assert producer.flush(30) == 0
        kafka.terminate()  # as `docker stop` does; the script has become Kafka, so the signal arrives
        assert kafka.wait(60) == 143
        kafka = start()
        consumer = Consumer({**client, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        message = next(m for _ in range(60) if (m := consumer.poll(1)) is not None and m.error() is None)
        consumer.close()
        assert message.value() == b"kept"
    finally:
        kafka.kill()
        kafka.wait()


# compose


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    done = run("compose-loader", "-format", "json", "compose.yaml")
    assert done.returncode == 0, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)
    return model


def test_compose_runs_every_service_of_the_bus_and_what_it_stands_on(composed: dict[str, Any]) -> None:
    assert set(composed["services"]) == {*SERVICES, "kafka", "topics", "prometheus", "grafana"}
    for service in SERVICES:
        assert composed["services"][service]["command"][:2] == ["run", service]


def test_the_loader_would_have_found_a_mistake(tmp_path: Path) -> None:
    broken = (DOCKER / "compose.yaml").read_text().replace("condition: service_healthy", "condition: service_cured")
    (tmp_path / "compose.yaml").write_text(broken)
    assert run("compose-loader", "compose.yaml", cwd=tmp_path).returncode != 0


def test_plain_kafka_cannot_be_reached_from_outside(composed: dict[str, Any]) -> None:
    assert composed["networks"]["bus"]["internal"] is True
    assert list(composed["services"]["kafka"]["networks"]) == ["bus"]
    for name, service in composed["services"].items():
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name


def test_compose_starts_services_with_options_that_the_command_has(composed: dict[str, Any]) -> None:
    for name in (*SERVICES, "topics"):
        words = composed["services"][name]["command"]
        helped = run("flexbus", words[0], "--help").stdout
        assert [w for w in words if w.startswith("--") and w not in helped] == [], name


# Kubernetes


@pytest.fixture(scope="module")
def manifests() -> str:
    done = run("kustomize", "build", ".")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' own schemas, as kubeconform reads them from a directory: references as files, no remote ids."""
    packaged = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema"
    source = max(packaged.glob("v*-local-strict"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
    target = tmp_path_factory.mktemp("schemas")

    def without_ids(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                k: v.replace("/api/_definitions.json", f"file://{target}/_definitions.json")
                if k == "$ref" and isinstance(v, str)
                else without_ids(v)
                for k, v in node.items()
                if not (k == "$id" and isinstance(v, str))
            }
        return [without_ids(v) for v in node] if isinstance(node, list) else node

    for kind in ("_definitions", *(p.stem for p in source.glob("*-v1.json")), "service-v1"):
        if (source / f"{kind}.json").exists():
            (target / f"{kind}.json").write_text(
                json.dumps(without_ids(json.loads((source / f"{kind}.json").read_text())))
            )
    return target


def conform(manifests: Path, schemas: Path) -> subprocess.CompletedProcess[str]:
    return run(
        "kubeconform",
        "-strict",
        "-summary",
        "-schema-location",
        f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        manifests,
    )


def test_kubernetes_takes_every_manifest(manifests: str, schemas: Path, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(manifests)
    done = conform(tmp_path / "all.yaml", schemas)
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(list(yaml.safe_load_all(manifests)))
    assert f"Valid: {count}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize(
    ("good", "bad"),
    [("replicas: 1", "replicas: one"), ("serviceName: kafka", "serviceNane: kafka"), ("containerPort", "containrPort")],
)
def test_kubeconform_would_have_found_a_mistake(
    manifests: str, schemas: Path, tmp_path: Path, good: str, bad: str
) -> None:
    assert good in manifests
    (tmp_path / "all.yaml").write_text(manifests.replace(good, bad, 1))
    assert conform(tmp_path / "all.yaml", schemas).returncode != 0


def test_the_services_manifest_is_what_its_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, DOCKER / "k8s" / "services.py"], capture_output=True, text=True, check=True
    ).stdout
    assert made == (DOCKER / "k8s" / "services.yaml").read_text(), "run docker/k8s/services.py again"


def test_kubernetes_runs_every_service_of_the_bus(manifests: str) -> None:
    documents = list(yaml.safe_load_all(manifests))
    arguments = [
        c["args"]
        for d in documents
        if d["kind"] == "StatefulSet"
        for c in d["spec"]["template"]["spec"]["containers"]
        if c["image"].startswith("flexbus:")
    ]
    assert sorted(a[1] for a in arguments) == sorted(SERVICES)
    helped = run("flexbus", "run", "--help").stdout
    assert [w for a in arguments for w in a if w.startswith("--") and w not in helped] == []


def test_no_pod_runs_as_root_or_may_become_it(manifests: str) -> None:
    for document in yaml.safe_load_all(manifests):
        if "template" not in document.get("spec", {}):
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, document["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"]["limits"]


# plain Kafka


def test_the_containers_alone_allow_a_plain_kafka_and_only_where_its_network_is_closed(
    composed: dict[str, Any], manifests: str
) -> None:
    for name, service in composed["services"].items():
        leave = service.get("environment", {}).get(PLAIN_NETWORK)
        assert (leave == "1") == (name in (*SERVICES, "topics")), name
    assert composed["networks"]["bus"]["internal"] is True
    assert list(composed["services"]["kafka"]["networks"]) == ["bus"]
    assert "ports" not in composed["services"]["kafka"]
    documents = list(yaml.safe_load_all(manifests))
    (settings,) = (d["data"] for d in documents if d["kind"] == "ConfigMap" and "FLEXBUS_BOOTSTRAP" in d["data"])
    assert settings[PLAIN_NETWORK] == "1"
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "NetworkPolicy"}
    assert policies["kafka"]["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "flexbus"}}}],
            "ports": [{"port": 9092, "protocol": "TCP"}],
        }
    ]
    assert PLAIN_NETWORK not in (DOCKER / "Dockerfile").read_text(), "an image is run anywhere"


# who may know of the market

METRICS_TOKEN = "/run/secrets/flexbus/metrics_token"


def test_what_is_of_the_market_is_told_for_a_token_in_compose(composed: dict[str, Any]) -> None:
    """The services and Prometheus have the same secret at the same place, and nobody else has it."""
    (secret,) = {name for name in composed["secrets"] if name.startswith("metrics")}
    for name, service in composed["services"].items():
        has = [s for s in service.get("secrets") or [] if s["source"] == secret]
        assert bool(has) == (name in (*SERVICES, "topics", "prometheus")), name
        assert all(s["target"] == METRICS_TOKEN for s in has)
    for name in SERVICES:
        assert composed["services"][name]["environment"]["FLEXBUS_METRICS_TOKEN"] == METRICS_TOKEN
    (job,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["authorization"] == {"credentials_file": METRICS_TOKEN}
    head = (DOCKER / "compose.yaml").read_text().split("name: flexbus")[0]
    assert f"> docker/{composed['secrets'][secret]['file'].rpartition('docker/')[2]}" in head, "the head makes it"


def test_prometheus_which_asks_nobody_who_comes_is_not_published(composed: dict[str, Any], manifests: str) -> None:
    prometheus = composed["services"]["prometheus"]
    assert (prometheus.get("ports"), list(prometheus["networks"])) == (None, ["bus"])
    policies = [d for d in yaml.safe_load_all(manifests) if d["kind"] == "NetworkPolicy"]
    let_in = [
        peer["podSelector"]["matchLabels"]
        for p in policies
        if p["spec"]["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": "prometheus"}
        for rule in p["spec"]["ingress"]
        for peer in rule["from"]
    ]
    assert let_in == [{"app.kubernetes.io/name": "grafana"}]


def test_what_is_of_the_market_is_told_for_a_token_in_kubernetes(manifests: str) -> None:
    documents = list(yaml.safe_load_all(manifests))
    (settings,) = (d["data"] for d in documents if d["kind"] == "ConfigMap" and "FLEXBUS_BOOTSTRAP" in d["data"])
    assert settings["FLEXBUS_METRICS_TOKEN"] == METRICS_TOKEN
    folder, _, key = METRICS_TOKEN.rpartition("/")
    pods = {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in documents if d["kind"] == "StatefulSet"}
    for name in (*map(dns_name, SERVICES), "prometheus"):
        (volume,) = (v for v in pods[name]["volumes"] if v.get("secret", {}).get("secretName") == "metrics")
        assert volume["secret"]["defaultMode"] == 0o440
        (container,) = pods[name]["containers"]
        assert {"name": volume["name"], "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    assert f"secret generic metrics --from-literal={key}=" in (DOCKER / "kustomization.yaml").read_text()


# Prometheus


def test_promtool_takes_configuration_and_rules(tmp_path: Path) -> None:
    """It looks for the token where the containers have it; here that is another place."""
    config = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    assert METRICS_TOKEN in config
    (tmp_path / "token").write_text("x")
    (tmp_path / "prometheus.yml").write_text(config.replace(METRICS_TOKEN, str(tmp_path / "token")))
    shutil.copy(DOCKER / "prometheus" / "rules.yml", tmp_path)
    done = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_on_its_history_and_is_tested() -> None:
    done = run("promtool", "test", "rules", "rules.test.yml", cwd=DOCKER / "prometheus")
    assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load((DOCKER / "prometheus" / "rules.yml").read_text())
    alerts = {r["alert"] for g in rules["groups"] for r in g["rules"] if "alert" in r}
    tests = yaml.safe_load((DOCKER / "prometheus" / "rules.test.yml").read_text())["tests"]
    fired = {a["alertname"] for t in tests for a in t.get("alert_rule_test", []) if a["exp_alerts"]}
    assert fired == alerts


def test_prometheus_asks_every_service() -> None:
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    (names,) = (d["names"] for c in config["scrape_configs"] for d in c["dns_sd_configs"])
    assert sorted(names) == sorted(dns_name(s) for s in SERVICES)
    assert f">= bool {len(SERVICES)}" in (DOCKER / "prometheus" / "rules.yml").read_text()


# the manual

MANUAL = (DOCKER.parent / "docs" / "operations.md").read_text()


def test_the_manual_names_every_alert_and_no_other() -> None:
    rules = yaml.safe_load((DOCKER / "prometheus" / "rules.yml").read_text())
    alerts = {r["alert"] for g in rules["groups"] for r in g["rules"] if "alert" in r}
    section = MANUAL.split("| alert |")[1].split("\n\n")[0]
    named = {word for line in section.splitlines() for word in re.findall(r"`([A-Z]\w+)`", line.split("|")[1])}
    assert named == alerts


def test_the_commands_of_the_manual_exist() -> None:
    helps: dict[tuple[str, ...], str] = {}

    def help_of(*words: str) -> str:
        if words not in helps:
            helps[words] = run("flexbus", *words, "--help").stdout
        return helps[words]

    commands = re.findall(r"\bflexbus ([a-z]+(?: [a-z]+)?)((?: (?:--?[a-z-]+|[\[\]|A-Z.\w:=-]+))*)", MANUAL)
    known = help_of()
    checked = 0
    for words, rest in commands:
        name, _, sub = words.partition(" ")
        if not re.search(rf"^  {name}\b", known, re.M):
            continue  # the word in a sentence
        checked += 1
        path = (name, sub) if sub and re.search(rf"^  {sub}\b", help_of(name), re.M) else (name,)
        missing = [o for o in re.findall(r"--[a-z-]+", rest) if o not in help_of(*path)]
        assert missing == [], f"flexbus {words}{rest}"
    assert checked > 15
