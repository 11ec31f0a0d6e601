"""`evergraft graph import-root`: turn a torchvision .pth file into a root file, once."""

from __future__ import annotations

import argparse
from pathlib import Path

from evergraft.cli.arguments import Subparsers, command, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = command(commands, "import-root", run, summary="turn a torchvision .pth file into a root file")
    parser.add_argument("weights", type=Path, metavar="PTH", help="a state dict as torchvision ships it")
    parser.add_argument("--backbone", required=True, metavar="NAME", help="such as vit_b_16 or resnet18")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the root file to write")


def run(args: argparse.Namespace) -> int:
    """Turn a .pth file into a root file."""
    from evergraft_trainer.export import import_root

    facts = import_root(args.weights, backbone=args.backbone, out=args.out)
    if args.json:
        print_json(facts)
    else:
        print(f"{facts['file']}: {facts['layers']} layers, sha256 {facts['sha256']}")
    return 0
