"""What wandb writes, read back by its own reader."""

import json
import subprocess
import sys

NAMES = ("display_name", "entity", "project", "notes", "tags", "sweep_id")


def runs(folder):
    """Folders of wandb's offline runs of a run's folder, oldest first."""
    # By the time of their records: names tell seconds, of which one may see two runs begin.
    records = (folder / "logs" / "wandb").glob("offline-run-*/*.wandb")
    return [record.parent for record in sorted(records, key=lambda record: record.stat().st_mtime_ns)]


def inspect(run):
    """What wandb's own reader finds in an offline run."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", run]
    shown = subprocess.run(reader, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    found = {"history": [], "summary": {}, "metrics": {}, "artifacts": []}
    for record in records:
        kind = record["type"]
        content = record.get(kind, {})
        if kind == "run":
            found |= {"id": content["run_id"], "group": content["run_group"], "job_type": content["job_type"]}
            found |= {
                name: content.get(name) for name in ("display_name", "entity", "project", "notes", "tags", "sweep_id")
            }
            found["config"] = content["config"]["update"]
        elif kind == "history":
            found["history"].append(content["item"])
        elif kind == "summary":
            found["summary"] |= content.get("update", {})
        elif kind == "metric":
            found["metrics"][content.get("name") or content.get("glob_name")] = content
        elif kind == "exit":
            found["exit_code"] = content.get("exit_code", 0)
        elif kind == "artifact":
            found["artifacts"].append(content)
    return found
