"""``python -m evergraft_operator``: reads the settings from the environment, once, and runs kopf in our own loop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from evergraft.errors import EvergraftError
from evergraft_operator import logs
from evergraft_operator.client import load_configuration
from evergraft_operator.settings import Settings, read_settings


def main() -> int:
    """Run until a signal ends it; the exit code."""
    try:
        settings = read_settings(os.environ)
        asyncio.run(load_configuration())  # kopf would bury what is wrong with it
    except EvergraftError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return error.exit_code
    logs.set_up(settings.process.log_level)
    asyncio.run(run(settings))
    return 0


async def run(settings: Settings) -> None:
    """Run the operator until it is told to stop."""
    import kopf
    from kopf._core.engines.peering import Identity  # kopf exports no way to name ourselves

    from evergraft_operator import handlers

    assert handlers.start is not None  # Loading the module has registered its handlers.
    await kopf.operator(
        clusterwide=not settings.namespaces,
        namespaces=list(settings.namespaces),
        standalone=True,
        memo=kopf.Memo(settings=settings),
        # kopf's own guess asks for the account's name, and a number that the platform has chosen has none.
        identity=Identity(settings.process.name or socket.gethostname()),
    )


if __name__ == "__main__":
    raise SystemExit(main())
