"""A small test runner that speaks TAP (https://testanything.org): cases are functions, the plan comes first.

A run ends by itself: after FSYNCFS_TEST_TIMEOUT seconds (set by meson; times FSYNCFS_TEST_MULTIPLIER, set by scripts/test)
a watchdog ends the case that hangs, with clean-up, before meson would kill the script.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback

_cases = []
on_timeout = []  # called by the watchdog's thread before the hanging case is interrupted


class Failure(AssertionError):
    """An expectation that was not met; its text is all that a reader needs."""


class Skipped(Exception):
    pass


class Interrupted(BaseException):
    """A signal or the watchdog ends the run: no `except Exception` in a case may stop it."""


def case(name):
    """Registers the decorated function as a test case; cases run in the order of the file."""
    def register(function):
        _cases.append((name, function))
        return function
    return register


def skip(reason):
    raise Skipped(reason)


def fail(message):
    raise Failure(message)


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(got, want, what):
    if got != want:
        raise Failure(f"{what}: got {got!r}, expected {want!r}")


def say(text):
    """A diagnostic for people: TAP comment lines."""
    for line in str(text).splitlines():
        print("# " + line.encode("utf-8", "backslashreplace").decode(), flush=True)


def _on_signal(number, _frame):
    raise Interrupted(signal.Signals(number).name)


def _watchdog(seconds):
    def bark():
        say(f"time-out: {seconds:.0f} s are over")
        for hook in on_timeout:
            hook()
        os.kill(os.getpid(), signal.SIGALRM)
    timer = threading.Timer(seconds, bark)
    timer.daemon = True
    timer.start()
    return timer


def _run_case(number, name, function, context):
    """True if the case passed or was skipped."""
    label = f"{number} - {name}"
    try:
        with context(name) as value:
            function(*([] if value is None else [value]))
    except Skipped as reason:
        print(f"ok {label} # SKIP {reason}", flush=True)
        return True
    except Interrupted as signal_name:
        print(f"not ok {label}\n# interrupted by {signal_name}\nBail out! {signal_name}", flush=True)
        sys.exit(1)
    except Failure as failure:
        print(f"not ok {label}", flush=True)
        say(failure)
        here = [f for f in traceback.extract_tb(failure.__traceback__) if f.filename == os.path.abspath(sys.argv[0])]
        if here:
            say(f"line {here[-1].lineno}: {here[-1].line}")
        return False
    except Exception:
        print(f"not ok {label}", flush=True)
        say(traceback.format_exc())
        return False
    print(f"ok {label}", flush=True)
    return True


def run(context=lambda name: contextlib.nullcontext()):
    """Runs all cases (or those whose name holds one of the arguments), each within context(name); exits 1 on a failure."""
    chosen = [c for c in _cases if not sys.argv[1:] or any(word in c[0] for word in sys.argv[1:])]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _on_signal)
    print(f"1..{len(chosen)}", flush=True)
    seconds = float(os.environ.get("FSYNCFS_TEST_TIMEOUT", "3600")) * float(os.environ.get("FSYNCFS_TEST_MULTIPLIER", "1"))
    timer = _watchdog(seconds * 0.9)
    passed = [_run_case(i, name, function, context) for i, (name, function) in enumerate(chosen, 1)]
    timer.cancel()
    sys.exit(0 if passed and all(passed) else 1)
