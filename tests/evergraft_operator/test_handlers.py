"""How kopf is set up, what it registers, and what the process says of itself."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path

import kopf
import pytest
from kopf._core.reactor import orchestration
from kubernetes.aio.client import Configuration

from evergraft.errors import SpecError
from evergraft_operator import __main__ as main_module
from evergraft_operator import fleet, handlers, logs
from evergraft_operator import process as process_module
from evergraft_operator.process import Process
from evergraft_operator.settings import Address, read_settings


def test_kopf_writes_nothing_and_watches_what_is_ours() -> None:
    settings = kopf.OperatorSettings()
    handlers.configure(settings)
    assert (settings.posting.enabled, settings.peering.standalone, settings.scanning.disabled) == (False, True, True)
    assert set(settings.watching.label_selectors.values()) == {"app.kubernetes.io/managed-by=evergraft"}
    assert len(settings.watching.label_selectors) == 2
    assert settings.queueing.idle_timeout < 0.1
    assert len(list(settings.networking.error_backoffs)) < 20  # type: ignore[arg-type]
    body = kopf.Body({"metadata": {"annotations": {"a": "b"}}, "spec": {"c": 1}})
    patch = kopf.Patch()
    settings.persistence.progress_storage.touch(body=body, patch=patch, value="x")
    settings.persistence.diffbase_storage.store(body=body, patch=patch, essence=kopf.BodyEssence({}))
    assert (dict(patch), settings.persistence.diffbase_storage.fetch(body=body)) == ({}, None)


def test_importing_the_package_loads_no_kopf_but_kopf_s_command_loads_the_handlers() -> None:
    def loaded(code: str) -> bool:
        report = "; import sys; print('evergraft_operator.handlers' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
        return done.stdout.strip() == "True"

    assert not loaded("import evergraft_operator")
    assert loaded("import kopf.cli, evergraft_operator")


@pytest.mark.parametrize("content", [None, "{}", "{", "clusters: 5"])
def test_without_a_cluster_the_process_ends_with_a_sentence(content: str | None, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    if content is not None:
        kubeconfig.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "evergraft_operator"],
        env={"KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert "no cluster to work in: " in done.stderr
    assert "set KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_ends_the_process_with_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evergraft_operator"],
        env={"EVERGRAFT_METRICS": "8080"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr.strip() == 'EVERGRAFT_METRICS: expected HOST:PORT or :PORT, such as ":8080", got "8080"'


def test_addresses_and_levels_come_from_the_environment() -> None:
    found = read_settings(
        {
            "EVERGRAFT_POD_NAME": "op-1",
            "EVERGRAFT_METRICS": "127.0.0.1:1",
            "EVERGRAFT_PROBES": "[::1]:2",
            "EVERGRAFT_LOG_LEVEL": "Debug",
        }
    ).process
    assert (found.name, found.metrics, found.probes) == ("op-1", Address("127.0.0.1", 1), Address("::1", 2))
    assert found.log_level == "debug"
    for name, value in (("EVERGRAFT_PROBES", "x:y"), ("EVERGRAFT_PROBES", ":70000"), ("EVERGRAFT_LOG_LEVEL", "loud")):
        with pytest.raises(SpecError, match=name):
            read_settings({name: value})


def test_a_record_is_one_json_line_with_what_it_is_about() -> None:
    line = io.StringIO()
    handler = logging.StreamHandler(line)
    handler.setFormatter(logs.JsonLines())
    logger = logging.Logger("a.b")
    logger.addHandler(handler)
    with logs.about(task="vision/cifar10", search=None), logs.about(attempt=2):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("it failed: %s", "x\ny")
    logger.warning("after")
    first, second = map(json.loads, line.getvalue().splitlines())
    assert (first["level"], first["message"], first["task"], first["attempt"]) == (
        "error",
        "it failed: x\ny",
        "vision/cifar10",
        2,
    )
    assert "two\nlines" in first["error"]
    assert "search" not in first
    assert set(second) == {"time", "level", "logger", "message"}


def test_a_watch_that_has_ended_is_a_reason_for_a_new_start() -> None:
    """kopf gives a watch up for good; named by kopf itself, so that another name is noticed."""
    assert 'name=f"watcher for {what}"' in inspect.getsource(orchestration)

    async def scenario() -> None:
        process = Process(read_settings({}), Configuration())
        try:
            watches = [asyncio.create_task(asyncio.sleep(60), name=f"watcher for {kind}") for kind in "ab"]
            process._tick()
            assert process.sick() == ""
            watches[0].cancel()
            await asyncio.wait(watches[:1])
            process._tick()
            assert process.sick() == "1 watches have ended"
            watches[1].cancel()
        finally:
            await process.client.close()

    asyncio.run(scenario())


def test_a_part_that_has_broken_is_a_reason_for_a_new_start() -> None:
    async def scenario() -> None:
        process = Process(read_settings({}), Configuration())
        try:

            async def breaks() -> None:
                raise RuntimeError("a worker's end")

            async def ends() -> None:
                return

            process.filled = True
            process._lead = [process._spawn(ends(), "take over")]
            await asyncio.wait(process._lead)
            assert process.sick() == ""
            process._lead += [process._spawn(breaks(), "worker 3")]
            await asyncio.wait(process._lead)
            assert process.sick() == "evergraft worker 3 has ended"
            with pytest.raises(RuntimeError, match="a worker's end"):
                await process._lead[1]
        finally:
            await process.client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("pod", ["op-1", ""])
def test_it_runs_as_a_number_without_an_account(pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    async def operator(**given: object) -> None:
        told.update(given)

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("kopf.operator", operator)
    asyncio.run(main_module.run(read_settings({"EVERGRAFT_POD_NAME": pod})))
    assert told["identity"] == (pod or socket.gethostname())


def test_figures_that_cannot_be_told_once_are_told_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def read(*_: object) -> fleet.Figures:
        told.append(len(told))
        if len(told) == 1:
            raise RuntimeError("an object nobody thought of")
        return fleet.Figures()

    async def scenario() -> None:
        process = Process(read_settings({}), Configuration())
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await process._show()
        finally:
            await process.client.close()

    monkeypatch.setattr(fleet, "read", read)
    monkeypatch.setattr(process_module, "SHOW_S", 0.01)
    asyncio.run(scenario())
    assert len(told) > 1
