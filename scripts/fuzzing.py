"""What `scripts/fuzz` runs: one target for some seconds, with a corpus that grows from run to run."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

CORPUS = Path(__file__).parents[1] / ".cache" / "fuzz"


def main() -> None:
    """Fuzz a target, the first argument, for some seconds, the second; a find ends it with an exit code."""
    name, seconds = sys.argv[1:]
    # Only scripts/fuzz installs atheris; and only modules imported under its eyes are instrumented.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["acmems"]):
        target = importlib.import_module("tests.fuzz_targets").TARGETS[name]
    folder = CORPUS / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (folder / "corpus" / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", "-timeout=5", "-max_len=8192"]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
