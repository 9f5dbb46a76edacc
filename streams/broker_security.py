"""The secure mode of the local broker: SASL/SCRAM over TLS with a certificate authority of its own.

Everything lies in `DATA_DIR/security`, readable by its owner only: the authority, the broker's certificate and
one file of client properties per principal. Clients prove themselves by SCRAM; the node's controller half, which SCRAM
cannot guard because the users are stored behind it, accepts certificates of our authority only.
"""

import datetime as dt
import ipaddress
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flexbus.errors import EnvironmentProblem

__all__ = [
    "ADMIN",
    "REAUTHENTICATE_S",
    "add_users",
    "client_config",
    "forget_format_arguments",
    "format_arguments",
    "is_secure",
    "prepare",
    "properties_file",
    "remove_users",
    "write_private",
]

ADMIN = "admin"
BROKER = "broker"
RESERVED = frozenset({ADMIN, BROKER})
MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096  # the least Kafka takes; passwords are random, not chosen, so guessing gains nothing
CA_DAYS = 3650
CERTIFICATE_DAYS = 398
RENEW_DAYS = 30
# How long an open connection outlives its password at most. librdkafka proves itself again within that time and goes
# on; aiokafka cannot, so its connections are closed by the broker then and made anew.
REAUTHENTICATE_S = 300.0
_KNOWN_WITHIN_S = 15.0
_PRINCIPAL = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def is_secure(data_dir: Path) -> bool:
    """Say whether a broker directory was made secure."""
    return (data_dir / "security").is_dir()


def prepare(data_dir: Path, reauthenticate_s: float = REAUTHENTICATE_S) -> dict[str, str]:
    """Make what is missing (authority, certificate, first passwords) and return Kafka's settings for it.

    Args:
        data_dir: directory of the broker.
        reauthenticate_s: how often a client must prove its password again on a connection that stays open, s.
    """
    home = data_dir / "security"
    if not (home / "ca.pem").exists():
        _make_authority(home)
    if _expires_soon(home / "broker.pem"):
        _make_certificate(home)
    for name in sorted(RESERVED):
        if not properties_file(data_dir, name).exists():
            _write_user(data_dir, name, secrets.token_urlsafe(24))
    for path in (home / "users").glob("*.properties"):  # a directory may have been moved or restored elsewhere
        if client_config(data_dir, path.stem)["ssl.ca.location"] != str(home / "ca.pem"):
            _write_user(data_dir, path.stem, _password(data_dir, path.stem))
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(home / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(home / "ca.pem"),
        "sasl.enabled.mechanisms": MECHANISM,
        "connections.max.reauth.ms": str(round(reauthenticate_s * 1000)),
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        f"listener.name.client.{MECHANISM.lower()}.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{BROKER}" password="{_password(data_dir, BROKER)}";'
        ),
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.controller.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": ";".join(f"User:{name}" for name in sorted(RESERVED)),
    }


def format_arguments(data_dir: Path) -> list[str]:
    """Return what StorageTool needs to know the first users; by file, as a process list shows arguments."""
    path = data_dir / "security" / "format.args"
    lines = [
        line
        for name in sorted(RESERVED)
        for line in ("--add-scram", f"{MECHANISM}=[name={name},password={_password(data_dir, name)}]")
    ]
    write_private(path, "\n".join(lines) + "\n")
    return [f"@{path}"]


def forget_format_arguments(data_dir: Path) -> None:
    """Remove the file of `format_arguments`; its passwords lie in files of their own."""
    (data_dir / "security" / "format.args").unlink(missing_ok=True)


def properties_file(data_dir: Path, principal: str) -> Path:
    """Return where a principal's librdkafka properties lie; FLEXBUS_KAFKA_PROPERTIES may name the file."""
    return data_dir / "security" / "users" / f"{principal}.properties"


def client_config(data_dir: Path, principal: str) -> dict[str, str]:
    """Return the properties with which a confluent-kafka client is that principal.

    Raises:
        EnvironmentProblem: the broker does not know the principal, or was not made secure.
    """
    path = properties_file(data_dir, principal)
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        why = "no such principal was added" if is_secure(data_dir) else "the broker was not made with --secure"
        raise EnvironmentProblem(f"There is no password for {principal} in {path.parent}: {why}.") from error
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def _write_user(data_dir: Path, principal: str, password: str) -> None:
    properties = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": MECHANISM,
        "sasl.username": principal,
        "sasl.password": password,
        "ssl.ca.location": str(data_dir / "security" / "ca.pem"),
    }
    path = properties_file(data_dir, principal)
    write_private(path, "".join(f"{name}={value}\n" for name, value in properties.items()))


def _password(data_dir: Path, principal: str) -> str:
    return client_config(data_dir, principal)["sasl.password"]


def add_users(data_dir: Path, bootstrap: str, names: Iterable[str], *, rotate: bool = False) -> None:
    """Make the broker know principals; whom it knows already keeps the password unless `rotate`.

    Raises:
        ValueError: a name is reserved or would not serve as a file and topic name.
    """
    new: dict[str, str] = {}
    for name in names:
        if name in RESERVED or not _PRINCIPAL.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a principal: lower-case letters, digits, . _ -; not {sorted(RESERVED)}"
            )
        if rotate or not properties_file(data_dir, name).exists():
            new[name] = secrets.token_urlsafe(24)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, ITERATIONS)
    _alter(
        data_dir,
        bootstrap,
        [UserScramCredentialUpsertion(name, info, password.encode()) for name, password in new.items()],
    )
    for name, password in new.items():  # after the broker took them: an interrupted call is simply repeated
        _write_user(data_dir, name, password)
    for name in new:
        _await_login(data_dir, bootstrap, name)


def _await_login(data_dir: Path, bootstrap: str, name: str) -> None:
    """Wait until a new password opens the door: the broker says yes a moment before it acts on it."""
    deadline = time.monotonic() + _KNOWN_WITHIN_S
    while True:
        quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None}
        admin = AdminClient({"bootstrap.servers": bootstrap, **client_config(data_dir, name), **quiet})
        try:
            admin.list_topics(timeout=1.0)
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"Kafka at {bootstrap} still refuses {name} {_KNOWN_WITHIN_S:.0f} s after its password was set: "
                    f"{error.args[0].str()}"
                ) from error
        else:
            return


def remove_users(data_dir: Path, bootstrap: str, names: Iterable[str]) -> list[str]:
    """Make the broker refuse the next connection of principals; return those that it knew.

    They get a password that nobody knows and are not deleted. At a start Kafka 4.1.0 drops every user that it has read
    when it comes upon a deleted one and no user is left so far (`ScramDelta.apply`, in the order of a hash map):
    depending on the name of who was deleted it knew neither `admin` nor itself and never came up.
    """
    known = [name for name in names if name not in RESERVED and properties_file(data_dir, name).exists()]
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, ITERATIONS)
    _alter(data_dir, bootstrap, [UserScramCredentialUpsertion(n, info, secrets.token_bytes(32)) for n in known])
    for name in known:
        properties_file(data_dir, name).unlink()
    return known


def _alter(data_dir: Path, bootstrap: str, changes: list[UserScramCredentialUpsertion]) -> None:
    if not changes:
        return
    admin = AdminClient({"bootstrap.servers": bootstrap, **client_config(data_dir, ADMIN)})
    for done in admin.alter_user_scram_credentials(changes).values():
        done.result(30)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_authority(home: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"flexbus local CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(home / "ca.key", _pem(key))
    write_private(home / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM).decode())


def _make_certificate(home: Path) -> None:
    ca = x509.load_pem_x509_certificate((home / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((home / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    addresses: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName("localhost"),
    ]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # the node also talks to itself
    certificate = (
        _builder(_name(BROKER), ca.subject, key.public_key(), CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM) + ca.public_bytes(serialization.Encoding.PEM)
    write_private(home / "broker.pem", _pem(key) + chain.decode())


def _expires_soon(path: Path) -> bool:
    if not path.exists():
        return True
    certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    return certificate.not_valid_after_utc < dt.datetime.now(dt.UTC) + dt.timedelta(days=RENEW_DAYS)
