"""Runs the tool and looks at what it did; shared by the tests beside this file. Python's own library only."""
import argparse
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

USAGE, INVALID_ARGUMENT, NOT_FOUND, CORRUPT_FILE, UNSUPPORTED, UNAVAILABLE, BUDGET, OUT_OF_MEMORY, IO = 2, 10, 11, 12, 13, 14, 15, 16, 17
CANCELLED, INTERRUPTED = 19, 130
NAMES = {2: "USAGE", 10: "INVALID_ARGUMENT", 11: "NOT_FOUND", 12: "CORRUPT_FILE", 13: "UNSUPPORTED", 14: "UNAVAILABLE", 15: "BUDGET",
         16: "OUT_OF_MEMORY", 17: "IO", 19: "CANCELLED"}

options = None


class Outcome:
    def __init__(self, code, out, err, peak_bytes=0):
        self.code, self.out, self.err, self.peak_bytes = code, out, err, peak_bytes

    def __str__(self):
        return f"exit code {self.code}\nstdout: {self.out[:2000]!r}\nstderr: {self.err[:2000]!r}"


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("tool", "tiny", "scratch"):
        parser.add_argument("--" + name, required=True, type=pathlib.Path)
    parser.add_argument("--sanitizer", default="")
    parser.add_argument("--hf", type=pathlib.Path)
    return parser.parse_known_args()


def main():
    global options
    options, rest = arguments()
    options.scratch.mkdir(parents=True, exist_ok=True)
    unittest.main(module="__main__", argv=[sys.argv[0], *rest], verbosity=2)


def valid():
    return options.tiny / "valid.gguf"


def environment():
    # A cache of its own, so that no test depends on what was measured before; all tests of a binary share it.
    # Ctrl-C before the work ends a process where it stands, whatever threads it has: no leak for the thread sanitizer to tell.
    return {**os.environ, "OUTRIGGER_CACHE": str(options.scratch / "cache"), "TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + " report_thread_leaks=0"}


def start(*args, **more):
    return subprocess.Popen([str(options.tool), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                            **{"stdin": subprocess.DEVNULL, **more})


def run(*args, input=None, timeout=300):
    """The outcome of one command. stdin is empty unless `input` is given, so nothing can wait for a person."""
    process = start(*args, stdin=subprocess.PIPE)
    try:
        out, err = process.communicate((input or "").encode(), timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{args} took more than {timeout} s; stderr: {process.communicate()[1]!r}")
    return Outcome(process.returncode, out.decode(), err.decode())


def interrupt(process, timeout=120):
    """Sends Ctrl-C and returns the outcome."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=timeout)
    return Outcome(process.returncode, out.decode(), err.decode())


def read_until(process, enough):
    """What the process wrote to stdout when `enough(bytes)` became true of it."""
    out = b""
    while not enough(out):
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, f"ended too early: {process.communicate()}"
        out += piece
    return out.decode()


def interrupt_once_busy(*args, busy):
    """Ctrl-C after ever longer waits, until `busy(outcome)` says that it came while the work was going on."""
    for seconds in (2, 4, 8, 16, 32, 64):
        process = start(*args)
        time.sleep(seconds)
        outcome = interrupt(process)
        assert outcome.code == INTERRUPTED, outcome
        if outcome.out and busy(outcome):  # before the work begins there is nothing to be told
            return outcome
    raise AssertionError(f"never got to work: {outcome}")


def long(test):
    """A case that a sanitizer's run leaves to the long one: the library's own tests run its code, on models as small."""
    @functools.wraps(test)
    def unless_it_takes_too_long(self):
        if options.sanitizer and not os.environ.get("OUTRIGGER_LONG_TESTS"):
            self.skipTest("with a sanitizer only in the long run")
        test(self)
    return unless_it_takes_too_long


class ToolTest(unittest.TestCase):
    def succeed(self, *args, **more):
        outcome = run(*args, **more)
        self.assertEqual(outcome.code, 0, f"{args}: {outcome}")
        return outcome

    def document(self, *args, **more):
        return json.loads(self.succeed(*args, "--json", **more).out)

    def refuse(self, code, *args, naming="", **more):
        """With and without --json: the exit code, one line on stderr, and the document; returns its "error"."""
        plain = run(*args, **more)
        self.assertEqual(plain.code, code, f"{args}: {plain}")
        self.assertEqual(plain.out, "", f"{args}: {plain}")
        self.assertEqual(plain.err.count("\n"), 1, f"{args}: {plain}")
        self.assertTrue(plain.err.startswith("outrigger: "), f"{args}: {plain}")
        self.assertIn(naming, plain.err)
        with_json = run(*args, "--json", **more)
        self.assertEqual(with_json.code, code, f"{args}: {with_json}")
        error = json.loads(with_json.out)["error"]
        self.assertEqual((error["code"], error["name"]), (code, NAMES[code]))
        self.assertTrue(error["message"])
        return error

    def check_fields(self, document, fields):
        """Each field is there, with the type of its example; an example that is a dictionary goes on inside."""
        for name, example in fields.items():
            self.assertIn(name, document)
            value = document[name]
            if isinstance(example, dict):
                self.check_fields(value, example)
            elif isinstance(example, float):
                self.assertIsInstance(value, (int, float), name)
            else:
                self.assertIs(type(value), type(example), name)
