"""The messages in Python, generated when first asked for (nothing generated is committed)."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"


def load(*files):
    """The modules of the given .proto files, in that order. Do not mix stock.proto with sync_service.proto: same names."""
    with tempfile.TemporaryDirectory(prefix="fsyncfs-protos-") as folder:
        for file in files:
            subprocess.run(["protoc", f"--python_out={folder}", f"--proto_path={Path(file).parent}", os.fspath(file)], check=True)
        sys.path.insert(0, folder)
        try:
            return [importlib.import_module(Path(file).stem + "_pb2") for file in files]
        finally:
            sys.path.remove(folder)


def load_own():
    """(sync_service, workspace): what our own two ends speak."""
    return load(PROTO / "sync_service.proto", PROTO / "workspace.proto")


def load_stock():
    """What stock peers speak."""
    return load(HERE / "stock.proto")[0]
