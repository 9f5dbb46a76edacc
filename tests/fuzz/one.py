"""One target under atheris: python -m tests.fuzz.one TARGET FOLDER [libFuzzer options]."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["flexbus", "clearing", "streams.intake"]):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    name, folder, *options = sys.argv[1:]
    corpus = Path(folder)
    for number, seed in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
