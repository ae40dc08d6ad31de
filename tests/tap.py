"""A small test runner that speaks TAP (https://testanything.org): cases are functions, the plan comes first.

A run ends by itself: after FSYNCFS_TEST_TIMEOUT seconds (set by meson; times FSYNCFS_TEST_MULTIPLIER, set by scripts/test)
a watchdog ends the case that hangs, with clean-up, before meson would kill the script.
"""

import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
import traceback

_cases = []
_local = threading.local()  # .lines: what a case that runs beside others has said so far
on_timeout = []  # called by the watchdog's thread before the hanging case is interrupted


class Failure(AssertionError):
    """An expectation that was not met; its text is all that a reader needs."""


class Skipped(Exception):
    pass


class Interrupted(BaseException):
    """A signal or the watchdog ends the run: no `except Exception` in a case may stop it."""


def case(name, alone=False):
    """Registers the decorated function as a test case; cases run in the order of the file. ALONE: never beside others."""
    def register(function):
        _cases.append((name, function))
        function.alone = alone
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


def _put(line):
    if hasattr(_local, "lines"):
        _local.lines.append(line)
    else:
        print(line, flush=True)


def say(text):
    """A diagnostic for people: TAP comment lines."""
    for line in str(text).splitlines():
        _put("# " + line.encode("utf-8", "backslashreplace").decode())


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
_undisturbed = 0    # clean-ups under way in the main thread
_interrupted = None  # the first signal's name


def _on_signal(number, _frame):
    """The first one ends the run, at once or after a clean-up; what follows would only interrupt the clean-up."""
    global _interrupted
    if _interrupted is not None:
        return
    _interrupted = signal.Signals(number).name
    if not _undisturbed:
        raise Interrupted(_interrupted)


@contextlib.contextmanager
def undisturbed():
    """What is done within is not interrupted; a signal that comes meanwhile ends the run afterwards."""
    global _undisturbed
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _interrupted
    _undisturbed += 1
    try:
        yield
    finally:
        _undisturbed -= 1
    if _interrupted is not None and before is None and not _undisturbed:
        raise Interrupted(_interrupted)


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
        _put(f"ok {label} # SKIP {reason}")
        return True
    except Interrupted as signal_name:
        print(f"not ok {label}\n# interrupted by {signal_name}\nBail out! {signal_name}", flush=True)
        sys.exit(1)
    except Failure as failure:
        _put(f"not ok {label}")
        say(failure)
        here = [f for f in traceback.extract_tb(failure.__traceback__) if f.filename == os.path.abspath(sys.argv[0])]
        if here:
            say(f"line {here[-1].lineno}: {here[-1].line}")
        return False
    except Exception:
        _put(f"not ok {label}")
        say(traceback.format_exc())
        return False
    _put(f"ok {label}")
    return True


def _run_aside(*job):
    """As _run_case, in a thread of its own: (passed, the lines to print)."""
    _local.lines = []
    return _run_case(*job), _local.lines


def _run_together(jobs, number):
    """Runs JOBS, NUMBER at a time, and prints what came of them in their order."""
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        results = [pool.submit(_run_aside, *job) for job in jobs]
        try:
            for result in results:
                passed, lines = result.result()
                print("\n".join(lines), flush=True)
                yield passed
        except Interrupted as signal_name:
            print(f"Bail out! {signal_name}", flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
            for hook in list(on_timeout):
                hook()  # what the running cases wait for ends: they clean up
            sys.exit(1)


def _run_all(jobs, number):
    """Runs JOBS in their order; of those that need not be alone NUMBER at a time."""
    while jobs:
        alone = number == 1 or jobs[0][2].alone
        end = next((i for i, job in enumerate(jobs) if i and (alone or job[2].alone)), len(jobs))
        yield from [_run_case(*jobs[0])] if alone else _run_together(jobs[:end], number)
        jobs = jobs[end:]


def run(context=lambda name: contextlib.nullcontext(), at_a_time=1):
    """Runs all cases (or those whose name holds one of the arguments), each within context(name), so many AT_A_TIME; exits 1 on a failure."""
    chosen = [c for c in _cases if not sys.argv[1:] or any(word in c[0] for word in sys.argv[1:])]
    for number in _ENDS:
        signal.signal(number, _on_signal)
    print(f"1..{len(chosen)}", flush=True)
    seconds = float(os.environ.get("FSYNCFS_TEST_TIMEOUT", "3600")) * float(os.environ.get("FSYNCFS_TEST_MULTIPLIER", "1"))
    timer = _watchdog(seconds * 0.9)
    passed = list(_run_all([(i, name, function, context) for i, (name, function) in enumerate(chosen, 1)], at_a_time))
    timer.cancel()
    sys.exit(0 if passed and all(passed) else 1)
