"""A worker of Optuna's with an empty objective: python optuna_worker.py JOURNAL STUDY TRIALS.

Says ``ready``, waits for a line, asks for and tells so many trials, and prints when it began and ended.
Called by ``slots.py``.
"""

from __future__ import annotations

import json
import sys
import time

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def main() -> None:
    """Wait for the start, then work."""
    journal, study_name, trials = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(journal))
    study = optuna.load_study(study_name=study_name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    for _ in range(int(trials)):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("rate", 0.0, 1.0))
    ended = time.monotonic()
    print(json.dumps({"slots": int(trials), "began": began, "lastResult": ended, "ended": ended}), flush=True)


if __name__ == "__main__":
    main()
