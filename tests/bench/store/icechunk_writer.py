"""One writer of Icechunk, the peer: one chunk of 1 KiB a commit, rebased as its guide says until it lands.

`throughput.py` starts as many of these as of ours; both speak alike: "ready", a line to start, one JSON line for each
acknowledged commit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import icechunk
import numpy as np
import zarr

ELEMENTS = 256
MESSAGE = "one chunk"


def storage(url: str, *, endpoint: str | None, key: str | None, secret: str | None) -> Any:
    """Icechunk's storage for a folder or an S3 URL."""
    if not url.startswith("s3://"):
        return icechunk.local_filesystem_storage(url)
    parts = urlsplit(url)
    return icechunk.s3_storage(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        region="us-east-1",
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id=key,
        secret_access_key=secret,
    )


def create(place: Any, *, chunks: int) -> None:
    """A repository with one array of so many chunks, none written."""
    session = icechunk.Repository.create(place).writable_session("main")
    root = zarr.group(store=session.store)
    root.create_array("weights", shape=(chunks * ELEMENTS,), chunks=(ELEMENTS,), dtype="f4", compressors=None)
    session.commit("start")


def landed(place: Any) -> int:
    """How many of the writers' commits the history holds."""
    history = icechunk.Repository.open(place).ancestry(branch="main")
    return sum(snapshot.message == MESSAGE for snapshot in history)


def main() -> None:
    """Write and commit chunk after chunk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("writer", type=int)
    parser.add_argument("--commits", type=int, required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--key")
    parser.add_argument("--secret")
    args = parser.parse_args()
    repository = icechunk.Repository.open(storage(args.url, endpoint=args.endpoint, key=args.key, secret=args.secret))
    data = np.full(ELEMENTS, args.writer, dtype="f4")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(args.commits):
        started = time.monotonic()
        failed = 0
        while not _commit(repository, (args.writer * args.commits + number) * ELEMENTS, data):
            failed += 1  # on local files a reader may find the branch half written
        print(json.dumps({"started": started, "ended": time.monotonic(), "failed": failed}), flush=True)


def _commit(repository: Any, first: int, data: Any) -> bool:
    try:
        session = repository.writable_session("main")
        zarr.open_array(session.store, path="weights")[first : first + ELEMENTS] = data
        session.commit(MESSAGE, rebase_with=icechunk.ConflictDetector())
    except icechunk.IcechunkError:
        return False
    return True


if __name__ == "__main__":
    main()
