"""Who reads the page: a token per reader in a file of its own, and through whose eyes a proven reader may look.

Without a directory of tokens the page knows nobody and shows everything to whoever reaches it (plain mode).
"""

import base64
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from flexbus.access import ALL_SEEING
from flexbus.errors import EnvironmentProblem
from flexbus.events import Role
from streams.broker_security import write_private
from streams.page.rows import Lens

__all__ = ["CHALLENGE", "Reader", "Readers", "lens_of", "make_reader", "remove_reader", "token_file"]

CHALLENGE = 'Basic realm="flexbus: name of the party, and its token", charset="UTF-8"'
_SUFFIX = ".token"
_SHORTEST = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who has proven who it is.

    Attributes:
        party_id: the party.
        roles: roles that it has in every area because who runs the bus says so; others come from the journal.
    """

    party_id: str
    roles: frozenset[Role] = frozenset()


def token_file(folder: Path, party_id: str) -> Path:
    """Return where a reader's token lies."""
    return folder / f"{party_id}{_SUFFIX}"


def make_reader(folder: Path, party_id: str, roles: Iterable[Role] = (), *, rotate: bool = False) -> Path:
    """Make a token, readable by its owner only, and return its file.

    Args:
        folder: directory of the tokens.
        party_id: the reader.
        roles: roles that it has in every area; none leaves it those that it has.
        rotate: replace a token that is there; else it stays as it is.
    """
    path = token_file(folder, party_id)
    if rotate or not path.exists():
        before = _read(path)
        roles = frozenset(roles) or (before[1].roles if before is not None else ())
        held = "".join(f"roles={r.value}\n" for r in sorted(roles, key=lambda r: r.value))
        write_private(path, f"token={secrets.token_urlsafe(32)}\n{held}")
    return path


def remove_reader(folder: Path, party_id: str) -> bool:
    """End a token, as the next request with it is refused; return whether there was one."""
    try:
        token_file(folder, party_id).unlink()
    except FileNotFoundError:
        return False
    return True


class Readers:
    """The tokens of a directory; a file that comes, goes or is replaced counts from the next request on.

    Args:
        folder: directory of the token files.

    Raises:
        EnvironmentProblem: there is no such directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[object, ...] = ()
        self._by_digest: dict[bytes, Reader] = {}
        if not folder.is_dir():
            raise EnvironmentProblem(f"{folder} holds the readers' tokens and does not exist; nobody could read")

    def who(self, authorization: str | None) -> Reader | None:
        """Return who an Authorization header proves; None if it proves nobody.

        Args:
            authorization: `Basic` with party and token, as browsers send it, or `Bearer` with the token.
        """
        scheme, _, given = (authorization or "").partition(" ")
        party: str | None = None
        token = given.strip()
        if scheme.lower() == "basic":
            try:
                party, _, token = base64.b64decode(token, validate=True).decode().partition(":")
            except ValueError:  # no base64, or no text in it
                return None
        elif scheme.lower() != "bearer":
            return None
        # Looked up by digest: how long it takes tells nothing about a token.
        # The server gives bytes of a header that are no text as halves of surrogate pairs.
        reader = self._known().get(sha256(token.encode(errors="surrogatepass")).digest())
        return reader if reader is not None and party in (None, reader.party_id) else None

    def _known(self) -> Mapping[bytes, Reader]:
        files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        seen = tuple(_marks(path) for path in files)
        if seen != self._seen:
            self._by_digest = dict(found for path in files if (found := _read(path)) is not None)
            self._seen = seen
        return self._by_digest


def _marks(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:  # it went after it was listed
        return (path.name,)
    return path.name, found.st_mtime_ns, found.st_ino


def _read(path: Path) -> tuple[bytes, Reader] | None:
    """Return the digest of a file's token and whose it is; None if it holds no token, which then opens nothing."""
    try:
        pairs = [line.partition("=")[::2] for line in path.read_text().splitlines()]
        roles = frozenset(Role(value) for name, value in pairs if name == "roles")
        token = dict(pairs).get("token", "")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read as a token file and opens nothing: %s", path, type(error).__name__)
        return None
    if len(token) < _SHORTEST:
        log.warning("%s holds no token of %d characters or more and opens nothing", path, _SHORTEST)
        return None
    return sha256(token.encode()).digest(), Reader(path.name.removesuffix(_SUFFIX), roles)


def lens_of(reader: Reader | None, roles: frozenset[Role], area_id: str, asked: Lens) -> Lens | None:
    """Return through whose eyes a reader looks at an area; None if it asked for other eyes than its own.

    Args:
        reader: who has proven who it is; None on a page that knows nobody, where every lens is for the asking.
        roles: the reader's roles in the area, by its journal.
        area_id: the area.
        asked: role and party that the request names.
    """
    if reader is None:
        return asked
    if reader.roles & ALL_SEEING:
        return asked
    if roles & ALL_SEEING:
        return replace(asked, proven=True, area_id=area_id)
    held = roles | reader.roles or {Role.OBSERVER}  # no participant here: what anyone may see
    role = asked.role or min(held, key=lambda r: r.value)
    if role not in held or asked.party_id not in (None, reader.party_id):
        return None
    return Lens(role, reader.party_id, proven=True, area_id=area_id)
