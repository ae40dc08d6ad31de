"""Proof 2: a Python program of at least 500 modules runs from the mount, cold and warm, as it runs natively."""

import json
import shutil
import sysconfig
from pathlib import Path

from harness import case, check, equal, main, run_ok

MODULES_MIN = 500
PACKAGES = Path("/usr/lib/python3/dist-packages")  # of which meson is one: the standard library alone is not enough

# Imports every module of the library beside it that can be imported, and prints what it got: names, files and a checksum.
PROGRAM = '''
import importlib, io, json, os, pkgutil, sys, warnings, contextlib, zlib
warnings.simplefilter("ignore")
here = os.path.dirname(os.path.abspath(__file__))
library = os.path.join(here, "lib")
sys.path[:] = [library]
skipped = ("antigravity", "this", "idlelib", "lib2to3.pgen2.conv", "test", "tkinter", "turtle", "__phello__")
names = sorted(m.name for m in pkgutil.walk_packages([library], onerror=lambda name: None)
               if not m.name.startswith(skipped) and not m.name.endswith("__main__"))
loaded = {}
for name in names:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            module = importlib.import_module(name)
        except (ImportError, AttributeError, OSError, SystemExit, ValueError):
            continue
    file = getattr(module, "__file__", None) or ""
    if file.startswith(library):
        loaded[name] = zlib.crc32(open(file, "rb").read())
print(json.dumps({"modules": len(loaded), "sum": zlib.crc32(repr(sorted(loaded.items())).encode())}))
'''


def library():
    return Path(sysconfig.get_path("stdlib", "posix_prefix", {"installed_base": "/usr"}))


@case("at least 500 modules, cold and warm, same output as native")
def modules(w):
    shutil.copytree(PACKAGES / "mesonbuild", w.tree / "lib/mesonbuild")
    shutil.copytree(library(), w.tree / "lib", symlinks=True, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__", "dist-packages", "site-packages", "lib-dynload"))
    (w.tree / "main.py").write_text(PROGRAM)
    command = ["/usr/bin/python3", "-I", "-B", "-X", "utf8"]
    native = run_ok([*command, w.tree / "main.py"]).stdout
    check(json.loads(native)["modules"] >= MODULES_MIN, f"a program of enough modules: {native}")
    server = w.server()
    m = w.mount(server)
    equal(run_ok([*command, m.point / "main.py"]).stdout, native, "cold")
    check(server.counter("fsyncfs_bytes_sent_total") > 0, "the cold run fetched from the master")
    missed = m.status()["misses"]  # bytes may go on coming: of files beside those that were read
    equal(run_ok([*command, m.point / "main.py"]).stdout, native, "warm")
    equal(m.status()["misses"], missed, "reads of the warm run that waited for the master")


main()
