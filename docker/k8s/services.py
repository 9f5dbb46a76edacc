"""Builds the manifests of the services; `python docker/k8s/services.py > docker/k8s/services.yaml`.

Every service is a StatefulSet: a worker has a number, and no two of one number run at once, which is what the static
members and transactional ids of the bus want. None keeps data: the journal is the state.
"""

import sys
from typing import Any

import yaml

IMAGE = "flexbus:0.1.0"
METRICS, PAGE = 9100, 8080
# Workers share the journal's partitions; the scheduler and the publisher's order need one only to begin with.
SERVICES = {
    "sequencer": (2, "500m", "512Mi"),
    "scheduler": (1, "100m", "256Mi"),
    "congestion": (1, "250m", "1Gi"),
    "aggregation": (1, "250m", "1Gi"),
    "traffic_light": (1, "100m", "512Mi"),
    "clearing": (2, "1", "2Gi"),
    "activation": (1, "100m", "512Mi"),
    "settlement": (1, "100m", "512Mi"),
    "publisher": (1, "250m", "512Mi"),
    "monitor": (1, "250m", "1Gi"),
}


def _meta(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "flexbus"}
    return {"name": name, "labels": labels}


def _selector(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _dns_name(service: str) -> str:
    return service.replace("_", "-")


def _service(name: str, ports: dict[str, int]) -> dict[str, Any]:
    """A headless one: its name resolves to all workers, which is how Prometheus finds them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _selector(name),
            "ports": [{"name": word, "port": port} for word, port in ports.items()],
        },
    }


def _container(service: str, ports: dict[str, int], cpu: str, memory: str) -> dict[str, Any]:
    command = ["run", service, "--listen", f"0.0.0.0:{METRICS}", "--slot", "$(SLOT)"]
    if service == "monitor":
        command += ["--page-port", str(PAGE), "--anyone-may-read"]  # whom the network policy lets through
    slot = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    return {
        "name": _dns_name(service),
        "image": IMAGE,
        "args": command,
        "envFrom": [{"configMapRef": {"name": "flexbus"}}],
        "env": [{"name": "SLOT", "valueFrom": slot}],
        "ports": [{"name": word, "containerPort": port} for word, port in ports.items()],
        # A large journal takes its time to fold; afterwards a hanging process is ended and begins anew.
        "startupProbe": {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 5, "failureThreshold": 120},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/health", "port": "metrics"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "scratch", "mountPath": "/var/lib/flexbus"},
            {"name": "metrics-token", "mountPath": "/run/secrets/flexbus", "readOnly": True},
        ],
    }


def _workers(service: str, replicas: int, cpu: str, memory: str, ports: dict[str, int]) -> dict[str, Any]:
    name = _dns_name(service)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _meta(name),
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": _selector(name)},
            "template": {
                "metadata": {"labels": _meta(name)["labels"]},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "runAsGroup": 10001,
                        "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(service, ports, cpu, memory)],
                    "volumes": [
                        {"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}},
                        {"name": "metrics-token", "secret": {"secretName": "metrics", "defaultMode": 0o440}},
                    ],
                },
            },
        },
    }


def manifests() -> str:
    """Return all documents as YAML."""
    documents = []
    for service, (replicas, cpu, memory) in SERVICES.items():
        ports = {"metrics": METRICS} | ({"page": PAGE} if service == "monitor" else {})
        documents += [_service(_dns_name(service), ports), _workers(service, replicas, cpu, memory, ports)]
    head = "# Made by services.py; change that and run it again.\n"
    return head + yaml.safe_dump_all(documents, sort_keys=False, width=120)


if __name__ == "__main__":
    sys.stdout.write(manifests())
