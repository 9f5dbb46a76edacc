"""Files of Kafka client properties: read without ever repeating a value, as they hold passwords and keys."""

import re
from pathlib import Path

from flexbus.errors import EnvironmentProblem

__all__ = ["read_properties"]

# Name, separator and value as java.util.Properties tells them apart, but for escapes and continued lines: files that
# were written for librdkafka hold a password's backslash as it is.
_LINE = re.compile(r"([^\s=:]+)(?:\s*[=:]\s*|\s+)(.*)")
# What a line of a key, a certificate or a password alone can hardly be taken for.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._][a-z0-9]+)+|acks|debug|partitioner|retries")


def read_properties(path: Path) -> dict[str, str]:
    """Return the properties of a file, one a line: name, then `=`, `:` or white space, then the value.

    Args:
        path: UTF-8 text; empty lines and lines that begin with `#` or `!` say nothing.

    Raises:
        EnvironmentProblem: the file cannot be read, or a line is no property; it names the line's number alone.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"The Kafka properties {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:  # which holds the whole file
        raise EnvironmentProblem(f"The Kafka properties {path} are no UTF-8 text: {error.reason}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip()[0] in "#!":
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None or not _NAME.fullmatch(parts[1]):
            raise EnvironmentProblem(
                f"The Kafka properties {path}, line {number}: not a property, which is librdkafka's name, `=` and a "
                "value on one line. Name a key or certificate by its file (ssl.key.location, ssl.certificate.location, "
                "ssl.ca.location). What the line says is not shown, as it may be secret."
            )
        found[parts[1]] = parts[2]
    return found
