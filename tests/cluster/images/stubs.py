"""Shared libraries that hold names and nothing else: what the loader must find, and what ends the process if called.

hollow.py puts them in the place of libraries for GPUs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from tests.cluster.harness.commands import run

FOR_GPUS = re.compile(r"lib(cu|nccl|nv|torch_)")
"""Libraries that may be hollow; any other that is absent is the system's."""
PLACES = ("_ZN4c10d15get_gil_checkerEv",)
"""Functions that torch calls when it is imported: each returns a reference to a place that torch then writes to."""
CUDA = re.compile(r"cu[A-Z]")
"""Functions of CUDA's driver and of cuFile, whose symbols carry no version."""
CONSTRUCTOR = re.compile(r"_ZN(4c10d16ProcessGroupNCCL7Options)C[12]Eb")
"""Objects that torch makes when it is imported, as defaults of arguments."""
OBJECT = """\
extern __attribute__((weak)) void *%(type)s[];
void %(name)s(void **self) {
    static void *table[66] = {0, %(type)s, [2 ... 65] = idle};
    *self = table + 2;
}
"""
HEAD = r"""
#include <stdio.h>
#include <stdlib.h>
extern void *_ZTVN10__cxxabiv117__class_type_infoE[];
static void idle(void) {}
static void missing(const char *name) {
    fprintf(stderr, "%s: this is torch for tests on CPUs; its GPU libraries are hollow\n", name);
    abort();
}
"""


def defined(library: Path) -> dict[str, str]:
    """The symbols that a library defines, with nm's letter for their kind."""
    return {name.split("@")[0]: kind for kind, name in _symbols(library, "--defined-only")}


def wanted(
    libraries: Sequence[Path], users: Sequence[Path], *, home: str, known: Container[str]
) -> dict[str, set[str]]:
    """What `libraries` need and none of them is or defines: symbols by the name of the library that must have them.

    A symbol that carries a version belongs to the library of that name. Of those without, the `known` and CUDA's own
    go to `home`, which the loader searches like any other; the rest is the system's. `users` bring libraries of
    their own and want only such symbols.
    """
    present = {path.name for path in libraries}
    absent: dict[str, set[str]] = {
        name: set() for path in libraries for name in _needed(path) if name not in present and FOR_GPUS.match(name)
    }
    for path in (*libraries, *users):
        for _, symbol in _symbols(path, "--undefined-only"):
            name, _, version = symbol.partition("@")
            if version in absent:
                absent[version].add(f"{name}@{version}")
            elif not version and (name in known or CUDA.match(name)):
                absent.setdefault(home, set()).add(name)
    return absent


def write(library: Path, symbols: Iterable[str], kinds: Mapping[str, str]) -> None:
    """Compile a library with these `symbols`; `kinds` tells which of them are data."""
    names = sorted(symbols)
    versions = {version for name in names if (version := name.partition("@")[2])}
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stub.c", Path(scratch) / "stub.map"
        source.write_text(HEAD + "".join(_definition(name.partition("@")[0], kinds) for name in names))
        script.write_text("".join(f"{version} {{ global: *; }};\n" for version in versions))
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-w",
            "-s",
            "-o",
            str(library),
            str(source),
            f"-Wl,-soname,{library.name}",
        ]
        scripted = [f"-Wl,--version-script={script}"] if versions else []
        run(*command, *scripted, "-l:libstdc++.so.6")


def _definition(name: str, kinds: Mapping[str, str]) -> str:
    """One symbol in C: type information as C++ reads it, other data as zeros, and functions that end the process."""
    if name in PLACES:
        return f"void *{name}(void) {{ static void *place[64]; return place; }}\n"
    if made := CONSTRUCTOR.fullmatch(name):
        return OBJECT % {"name": name, "type": f"_ZTIN{made[1]}E"}
    if name.startswith("_ZTI"):
        return f'void *{name}[3] = {{&_ZTVN10__cxxabiv117__class_type_infoE[2], "{name[4:]}", 0}};\n'
    if kinds.get(name, "T") in "BDRVbdrv":
        return f"void *{name}[512];\n"
    return f'void {name}(void) {{ missing("{name}"); }}\n'


def _symbols(library: Path, which: str) -> list[tuple[str, str]]:
    """Kind and name of the dynamic symbols; weak ones may be missing and are left out of the undefined."""
    rows = [line.split()[-2:] for line in run("nm", "-D", which, str(library)).splitlines()]
    return [(kind, name) for kind, name in rows if which == "--defined-only" or kind == "U"]


def _needed(library: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-dW", str(library)))
