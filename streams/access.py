"""Rights on a broker with access control: principals with passwords, signing keys, ACLs exactly as the table says."""

import secrets
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from flexbus.access import PLAYER, SERVICE_PRINCIPALS, Grant, grants_of
from flexbus.errors import EnvironmentProblem
from flexbus.events import Role
from flexbus.signing import private_key
from streams import broker_security as security
from streams.broker import Broker
from streams.kafka import Connection, Trouble, environment_problem
from streams.page.readers import make_reader
from streams.quotas import give_quotas
from streams.topics import create_topics

__all__ = ["Applied", "NoAccessControlError", "Provisioned", "apply_grants", "provision", "revoke"]

T = TypeVar("T")
_TIMEOUT_S = 30.0
_RIGHTS_PER_CALL = 1_000  # Kafka takes at most 10,000 in one
_USER = "User:"


class NoAccessControlError(EnvironmentProblem):
    """The broker lets everybody do everything."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a call changed on the broker."""

    added: tuple[Grant, ...]
    removed: tuple[Grant, ...]


def apply_grants(connection: Connection, grants: Iterable[Grant], principals: Iterable[str] = ()) -> Applied:
    """Make the rights of principals exactly these: what is missing is added, what is too much is taken away.

    Args:
        connection: the broker, as a principal that may alter rights.
        grants: the rights.
        principals: further principals, which have no rights but those among the grants; others are left alone.

    Raises:
        NoAccessControlError: the broker lets everybody do everything.
        EnvironmentProblem: the broker does not answer or refuses.
    """
    wanted = frozenset(grants)
    ours = {g.principal for g in wanted} | set(principals)
    trouble = Trouble()
    admin = connection.admin(trouble)
    try:
        there = _present(admin, ours)
        missing, surplus = sorted(wanted - set(there)), [g for g in there if g not in wanted]
        # What is too much goes first: a call that is interrupted leaves too few rights, never too many.
        taken = [_filter(there[g]) for g in surplus]
        for some in _calls(taken):
            for removing in admin.delete_acls(some).values():
                removing.result(_TIMEOUT_S)
        for some in _calls([_binding(g) for g in missing]):
            for adding in admin.create_acls(some).values():
                adding.result(_TIMEOUT_S)
        deadline = time.monotonic() + _TIMEOUT_S
        while set(_present(admin, ours)) != wanted:  # the broker says yes a moment before it acts on it
            if time.monotonic() > deadline:
                raise EnvironmentProblem(f"Kafka at {connection.bootstrap} took the rights and does not have them yet")
            time.sleep(0.02)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.SECURITY_DISABLED:
            raise NoAccessControlError(
                f"Kafka at {connection.bootstrap} has no access control, so no rights can be given: start it by "
                "`flexbus broker start --secure`, or set authorizer.class.name on your own."
            ) from error
        raise environment_problem(error, connection.bootstrap, trouble, admin) from error
    return Applied(tuple(missing), tuple(surplus))


def _calls(items: list[T]) -> Iterator[list[T]]:
    for first in range(0, len(items), _RIGHTS_PER_CALL):
        yield items[first : first + _RIGHTS_PER_CALL]


def _present(admin: AdminClient, principals: Container[str]) -> dict[Grant | AclBinding, AclBinding]:
    found = admin.describe_acls(_ANY_ACL, request_timeout=_TIMEOUT_S).result(_TIMEOUT_S)
    return {_grant(acl): acl for acl in found if acl.principal.removeprefix(_USER) in principals}


def revoke(connection: Connection, principals: Iterable[str]) -> Applied:
    """Take every right of principals away; see `apply_grants`."""
    return apply_grants(connection, (), principals)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A secure local broker made ready.

    Attributes:
        admin: connection that may do everything; for making topics and rights, not for work.
        properties: file of client properties by principal, services and participants.
        readers: directory of the page's tokens, one for each participant.
        metrics_token: file of the token for what the services' metrics tell of the market: it is all-seeing, so it is
            for who runs the bus, as Prometheus.
    """

    admin: Connection
    properties: Mapping[str, Path]
    readers: Path
    metrics_token: Path

    def connection(self, principal: str) -> Connection:
        """Return the connection of a principal."""
        return Connection.of(self.admin.bootstrap, self.properties[principal])


def provision(broker: Broker, parties: Mapping[str, Iterable[Role]], partitions: int | None = None) -> Provisioned:
    """Make topics, principals and rights on a running secure broker; what is there already stays.

    Args:
        broker: the broker, started with `secure`.
        parties: roles by participant.
        partitions: as for `create_topics`.

    Raises:
        EnvironmentProblem: the broker does not answer.
        ValueError: a participant has a name that is reserved or no principal can have.
    """
    admin = Connection.of(broker.bootstrap, security.properties_file(broker.data_dir, security.ADMIN))
    grants = grants_of(parties)
    create_topics(admin, parties, partitions)
    names = (*SERVICE_PRINCIPALS, PLAYER, *parties)
    apply_grants(admin, grants)
    give_quotas(admin, parties)
    broker.add_users(*names)
    readers = broker.data_dir / "security" / "readers"
    for party, roles in parties.items():
        # Roles in a market area come from its journal; who audits all of them, from who runs the bus.
        make_reader(readers, party, frozenset(roles) & {Role.AUDITOR})
    token = broker.data_dir / "security" / "metrics.token"
    if not token.exists():
        security.write_private(token, secrets.token_urlsafe(32) + "\n")
    return Provisioned(admin, {name: security.properties_file(broker.data_dir, name) for name in names}, readers, token)


def signing_key(file: Path) -> Any:
    """Return the Ed25519 private key of a PEM file; where there is no file, make one, for its owner alone.

    Raises:
        ValueError: the file holds something else.
    """
    if file.exists():
        return private_key(file.read_bytes())
    made = Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    security.write_private(file, pem.decode())
    return made


_ANY_ACL = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)


def _binding(grant: Grant) -> AclBinding:
    return AclBinding(
        ResourceType[grant.resource],
        grant.name,
        ResourcePatternType.PREFIXED if grant.prefixed else ResourcePatternType.LITERAL,
        f"{_USER}{grant.principal}",
        "*",
        AclOperation[grant.operation],
        AclPermissionType.ALLOW,
    )


def _grant(acl: AclBinding) -> Grant | AclBinding:
    """Return an ACL of the broker as a grant; itself, which is never wanted, if no grant of ours can say it."""
    ours = acl.host == "*" and acl.permission_type is AclPermissionType.ALLOW
    if not ours:
        return acl
    return Grant(
        acl.principal.removeprefix(_USER),
        acl.restype.name,
        acl.name,
        acl.operation.name,
        acl.resource_pattern_type is ResourcePatternType.PREFIXED,
    )


def _filter(acl: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        acl.restype,
        acl.name,
        acl.resource_pattern_type,
        acl.principal,
        acl.host,
        acl.operation,
        acl.permission_type,
    )
