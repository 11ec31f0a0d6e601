"""A Job's container, run as a process of this machine: its command, its environment and its mounted Secrets.

For tests that hold what the operator builds against what workers and stewards do. Mounts become folders below one
that is given, so the paths in the variables are rewritten; the environment holds nothing but what the Job says.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergraft import canonical

MOUNTS = "/var/run/evergraft"
KEPT = ("PATH", "SYSTEMROOT", "COVERAGE_PROCESS_START")


@dataclass(frozen=True)
class Container:
    """One container of a Job document. `folder` stands in for its mounts, `/tmp` and the termination message.

    `secrets` are the keys of the Secret of each role, store and data; values are written as they are.
    """

    job: Mapping[str, Any]
    folder: Path
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def start(self, **more: str) -> subprocess.Popen[str]:
        """Run it; `more` are variables beside the Job's own."""
        for role, keys in self.secrets.items():
            place = self.folder / "run" / role
            place.mkdir(parents=True, exist_ok=True)
            for name, value in keys.items():
                (place / name).write_text(value)
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.message_path.write_bytes(b"")  # as a kubelet leaves it
        box = self._box()
        assert box["command"] == ["evergraft"]
        command = [sys.executable, "-m", "evergraft", *box["args"]]
        environment = {**self._environment(box), **more}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, cwd="/", text=True, **streams)  # type: ignore[call-overload,no-any-return] # noqa: S603

    def finish(self, process: subprocess.Popen[str], timeout_s: float = 180) -> tuple[int, str]:
        """(exit code, what it said) at its end."""
        _, said = process.communicate(timeout=timeout_s)
        return process.returncode, said

    @property
    def message_path(self) -> Path:
        """Where the termination message is."""
        return self.folder / "message"

    @property
    def message(self) -> str:
        """The termination message, of which a kubelet keeps 4,096 bytes."""
        data = self.message_path.read_bytes()
        assert len(data) <= 4096
        return data.decode()

    def _box(self) -> Mapping[str, Any]:
        box: Mapping[str, Any] = self.job["spec"]["template"]["spec"]["containers"][0]
        return box

    def _environment(self, box: Mapping[str, Any]) -> dict[str, str]:
        """The variables as a kubelet sets them: ``$$`` is one dollar, ``$(NAME)`` an earlier variable."""
        own = os.getpid()  # pods all use one port, and other processes run such pods at the same time
        found = {"EVERGRAFT_POD_IP": f"127.1.{own // 250 % 250 + 1}.{own % 250 + 1}"}
        for item in box["env"]:
            if "value" in item:
                found[item["name"]] = _expanded(item["value"], found)
        found |= {"HOME": str(self.folder / "tmp"), "TMPDIR": str(self.folder / "tmp")}
        found["EVERGRAFT_REPORT"] = str(self.message_path)
        for name in ("EVERGRAFT_SPEC", "EVERGRAFT_STEWARD"):
            if name in found:
                found[name] = self._moved(found[name])
        return {**{name: os.environ[name] for name in KEPT if name in os.environ}, **found}

    def _moved(self, text: str) -> str:
        value = json.loads(text)
        for role in ("store", "data"):
            for name in ("credentials", "caBundle"):
                if name in value.get(role, {}):
                    value[role][name] = value[role][name].replace(MOUNTS, str(self.folder / "run"))
        return canonical.dumps(value).decode()


def _expanded(text: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\$|\$\((\w+)\)", lambda found: "$" if found[0] == "$$" else known.get(found[1], found[0]), text)
