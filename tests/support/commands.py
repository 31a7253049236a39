"""Commands in processes of their own that are copies of this one: nothing is imported anew."""

import io
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path


def run_forked(main, words, folder, output, encoding="utf-8", timeout=120):
    """Exit code of a command that runs in a folder.

    Args:
        main: Of the command.
        words: Of the command line.
        folder: Where it runs.
        output: A file descriptor that gets what it prints.
        encoding: Of what it prints.
        timeout: In seconds.
    """
    process = start_forked(main, words, folder, output, encoding)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{words} runs for more than {timeout} s")
    return process.exitcode


def start_forked(main, words, folder, output, encoding="utf-8"):
    """The process of a command that runs in a folder and prints to a file descriptor."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(main, words, folder, output, encoding))
    process.start()
    return process


def forked_output(main, words, folder):
    """Exit code of a command that runs in a folder, and all that it prints."""
    with tempfile.TemporaryFile() as file:
        code = run_forked(main, words, folder, file.fileno())
        file.seek(0)
        return code, file.read().decode()


def _run(main, words, folder, output, encoding):
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(output, number)
    # Set up as the interpreter does when it starts.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w"), encoding=encoding, errors=errors, write_through=True)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    sys.argv[:] = [Path(sys.argv[0]).name, *words]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
    os._exit(code or 0)
