"""A Python program of many small modules, whose start is what a task's start is: hundreds of small reads in an order of its own."""

import random
from pathlib import Path

PACKAGES, MODULES = 60, 10  # 600 modules, and an __init__.py in each package


def make_program(folder, seed=1):
    """Writes it into FOLDER; returns (what `python3 main.py` prints, number of files)."""
    rng = random.Random(seed)
    folder = Path(folder)
    names = [(p, m) for p in range(PACKAGES) for m in range(MODULES)]
    for p in range(PACKAGES):
        package = folder / f"package{p:02d}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f'"""Package {p}."""\nNUMBER = {p}\n')
    for p, m in names:
        filler = "".join(f"    # {rng.getrandbits(200):050x}\n" for _ in range(rng.randrange(5, 60)))
        (folder / f"package{p:02d}" / f"module{m}.py").write_text(
            f"def value():\n{filler}    return {p * 100 + m}\n")
    rng.shuffle(names)
    lines = [f"from package{p:02d} import module{m} as m{p}_{m}" for p, m in names]
    total = " + ".join(f"m{p}_{m}.value()" for p, m in names)
    (folder / "main.py").write_text("\n".join(lines) + f"\nprint({total})\n")
    return f"{sum(p * 100 + m for p, m in names)}\n", PACKAGES * (MODULES + 1) + 1
