"""Writes what of the chart follows from elsewhere: its copy of the CRDs, values.schema.json, the README's table.

``python -m charts.generate [FOLDER]``, as `make manifests` does; a test holds the files equal to this rendering.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from charts.values_schema import Schema, values

from evergraft.api import crd

CHART = Path(__file__).resolve().parent / "evergraft"
BEGIN, END = "<!-- values: written by `make manifests` -->", "<!-- end of values -->"
WHOLE = ("defaults", "stewards", "store", "policy")
"""Objects whose fields the README leaves to the schema or says by itself."""


def rendered() -> Mapping[str, str]:
    """Every file's text by its path in the chart."""
    table = "\n".join(rows())
    before, _, rest = (CHART / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        **{f"files/crds/{name}": content for name, content in crd.manifests().items()},
        "values.schema.json": json.dumps(values(), indent=1, ensure_ascii=False) + "\n",
        "README.md": f"{before}{BEGIN}\n\n{table}\n\n{END}{after}",
    }


def rows() -> Iterator[str]:
    """The README's table of values: name, default, meaning."""
    yield "| value | default | |"
    yield "| --- | --- | --- |"
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for path, default, schema in leaves(defaults, values(), ()):
        yield f"| `{'.'.join(path)}` | `{json.dumps(default, ensure_ascii=False)}` | {schema['description']} |"


def leaves(default: Any, schema: Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Schema]]:
    """Every value that is no object of values, with its default and schema."""
    known = schema.get("properties", {})
    if not isinstance(default, dict) or not known or (path and path[-1] in (*WHOLE, "resources")):
        yield path, default, schema
        return
    for name, inner in known.items():
        if name in default:
            yield from leaves(default[name], inner, (*path, name))


def main(arguments: Sequence[str]) -> None:
    """Write the files, by default into the chart."""
    folder = Path(arguments[0]) if arguments else CHART
    for name, content in rendered().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
