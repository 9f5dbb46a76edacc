"""One target under atheris: python -m tests.fuzz.one TARGET FOLDER [libFuzzer options]."""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["flexbus", "clearing", "streams.inputs", "streams.intake", "streams.checkpoint", "streams.packing"]
):
    from tests.fuzz.targets import TARGETS, meddled, seeds

BYTES_ONLY = 0.5  # share of the changes that know nothing of what the bytes mean


def main() -> None:
    name, folder, *options = sys.argv[1:]
    corpus = Path(folder)
    for number, seed in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(seed)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < BYTES_ONLY:
            return bytes(atheris.Mutate(data, most))
        return meddled(name, data, chance)[:most]

    atheris.Setup([sys.argv[0], str(corpus), *options], TARGETS[name], custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
