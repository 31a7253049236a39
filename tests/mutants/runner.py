"""Runs the tests of a copy of the tree once as it is, and then, in a process each, those that a mutant may break.

``python -m tests.mutants.runner PLAN`` in the copy. A process begins as a copy of this one, with everything imported
and all tests collected. It stops at the first test that fails, and the quickest come first.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import time
from itertools import zip_longest
from pathlib import Path

import pytest
from mutmut.configuration import config
from mutmut.state import state

ACTIVE = "MUTANT_UNDER_TEST"
"""The variable by which Mutmut's generated code knows which version of a function to call."""


class Mutants:
    """A plugin of pytest that runs the collected tests for many mutants.

    Args:
        groups: Mutants with the tests of their file, ``{"mutants": [...], "tests": [...]}``.
        results: File that says what became of each mutant so far, ``known``, and which tests fail without any,
            ``failing``: they judge none.
    """

    def __init__(self, groups, results):
        self.groups, self.results = groups, Path(results)
        self.known, self.failing = {}, []
        self.seconds, self.reached = {}, {}  # of each test without any mutant
        self.beginning = set()  # tests that begin processes: what these reach is noted nowhere

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        for group in self.groups:
            tests = [item for item in session.items if item.nodeid.startswith(tuple(group["tests"]))]
            self._run_unbroken(session, [item for item in tests if item not in self.seconds])
            for name in group["mutants"]:
                self._judge(session, [item for item in tests if item in self.reached], name)
            self.results.write_text(json.dumps({"failing": self.failing, "known": self.known}))
        return True

    def _run_unbroken(self, session, tests):
        """Find out the seconds of each test, and the functions that it reaches."""
        os.environ[ACTIVE] = "stats"  # Mutmut's code notes what is called
        for item, following in zip_longest(tests, tests[1:]):
            state()._stats.clear()
            begun, failed, children = time.perf_counter(), session.testsfailed, _of_children()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.seconds[item] = time.perf_counter() - begun
            if session.testsfailed > failed:
                self.failing.append(item.nodeid)
            else:
                self.reached[item] = set(state()._stats)
                self.beginning.update([item] if _of_children() != children else [])
        session.testsfailed = 0

    def _judge(self, session, tests, name):
        function = name.rpartition("__mutmut_")[0]
        chosen = [item for item in tests if function in self.reached[item] or item in self.beginning] or tests
        chosen.sort(key=self.seconds.get)
        self.known[name] = judged(session, chosen, name, sum(map(self.seconds.get, chosen)))


def _of_children():
    """A number that rises with every process that this one began and that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


def judged(session, tests, name, seconds):
    """``killed``, ``survived`` or, where it takes many times what the tests take, ``timeout``."""
    child = os.fork()
    if child == 0:
        os.setsid()
        limit = int(10 + 5 * seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        signal.alarm(6 * limit)  # it may wait for another process for ever
        try:
            os._exit(bool(_fails(session, tests, name)))
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes that a test began
    if os.WIFSIGNALED(status):
        return "timeout"
    return "killed" if os.WEXITSTATUS(status) else "survived"


def _fails(session, tests, name):
    """Whether one of the tests fails with a mutant."""
    os.environ[ACTIVE] = name
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()) if module.__name__.startswith(("stage", "pipelines")) else ():
            if hasattr(value, "cache_clear"):  # what the unbroken function gave
                value.cache_clear()
    for item, following in zip_longest(tests, tests[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return True
    return False


def judge(path):
    """Judge the mutants of a plan, ``groups`` and the file for ``results``; pytest's exit code."""
    config()  # while this is the folder of its settings: tests go to others
    plan = json.loads(Path(path).read_text())
    tests = dict.fromkeys(test for group in plan["groups"] for test in group["tests"])
    plugin = Mutants(plan["groups"], plan["results"])
    return pytest.main(["-q", "--tb=no", "-p", "no:cacheprovider", *tests], plugins=[plugin])


if __name__ == "__main__":
    sys.exit(judge(sys.argv[1]))
