"""`make fuzz [RUNS=] [SEED=]`, or python -m tests.fuzz [TARGET ...] [RUNS=] [SEED=].

Coverage-guided fuzzing of codec, sequencer input and the files of the command line: atheris (libFuzzer) changes valid
inputs and keeps what reaches new code. Last line: runs and crashes.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.targets import A_TENTH, TARGETS

LONGEST = 8192  # bytes of an input
SLOWEST_S = 20  # of one input; slower counts as a crash


def main() -> int:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:] if "=" in argument)
    names = [argument for argument in sys.argv[1:] if "=" not in argument] or list(TARGETS)
    runs, seed = int(options.get("RUNS") or 10_000), int(options.get("SEED") or 1)
    crashed: list[str] = []
    done = 0
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="flexbus-fuzz-") as folder:
            corpus = Path(folder) / "corpus"
            corpus.mkdir()
            command = [sys.executable, "-m", "tests.fuzz.one", name, str(corpus), f"-seed={seed}"]
            command += [f"-runs={runs // 10 if name in A_TENTH else runs}"]
            command += [f"-max_len={LONGEST}", f"-timeout={SLOWEST_S}", f"-artifact_prefix={folder}/"]
            found = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            kept = len(list(corpus.iterdir()))
            for artifact in sorted(Path(folder).glob("crash-*")) + sorted(Path(folder).glob("timeout-*")):
                print(f"{name}: {artifact.read_bytes()!r}")
        count = re.search(r"Done (\d+) runs", found.stderr)
        done += int(count[1]) if count else 0
        if found.returncode or count is None:
            crashed.append(name)
            print(found.stdout[-4000:], found.stderr[-2000:], sep="\n")
        print(
            f"{name:10} {count[1] if count else '?'} runs, {kept} inputs that reach new code, "
            f"{time.monotonic() - began:.0f} s"
        )
    print(f"runs: {done}, crashes: {len(crashed)}")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
