"""placeholder."""

from pipelines.run_folder import RunFolder


def write_report(folder: RunFolder) -> None: ...
