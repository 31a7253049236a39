"""A Hugging Face hub of one process: repositories of files in memory behind the hub's addresses."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class FakeHub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: By name a list of commits, each a mapping of paths to bytes.
        requests: Method and path of all requests, in their order.
        tokens: Logins that came with requests.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.requests, self.tokens = {}, [], set()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code):
        self.answer({"error": code}, 404, X_Error_Code=code)

    def files(self, repo, revision):
        """The files of a revision, or None after the refusal was sent."""
        commits = self.server.repositories.get(repo)
        if commits is None:
            self.missing("RepoNotFound")
        elif revision == "main":
            return commits[-1]
        elif re.fullmatch("[0-9a-f]{40}", revision):
            return commits[int(revision, 16) - 1]
        else:
            self.missing("RevisionNotFound")
        return None

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.note()
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repo, revision = found[1], found[2] or "main"
            files = self.files(repo, revision)
            if files is not None:
                sha = f"{len(self.server.repositories[repo]):040x}" if revision == "main" else revision
                self.answer({"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            files = self.files(found[1], found[2])
            if files is not None:
                self.answer(
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in files.items()
                    ]
                )
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", path):
            files = self.files(found[1], found[2])
            if files is not None and found[3] in files:
                content = files[found[3]]
                self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=found[2])
            elif files is not None:
                self.missing("EntryNotFound")
        else:
            self.missing("RepoNotFound")

    def do_POST(self):
        path = self.note()
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.repositories.setdefault(repo, [{}])
            self.answer({"url": f"{self.server.address}/{repo}", "id": repo, "name": repo})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            commits = self.server.repositories[found[1]]
            files = dict(commits[-1])
            for line in body.decode().splitlines():
                step = json.loads(line)
                if step["key"] == "file":
                    files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
                elif step["key"] == "deletedFile":
                    del files[step["value"]["path"]]
            commits.append(files)
            sha = f"{len(commits):040x}"
            self.answer({"commitUrl": f"{self.server.address}/{found[1]}/commit/{sha}", "commitOid": sha})
        else:
            self.missing("RepoNotFound")

    def note(self):
        """The path of a request, which is kept."""
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        self.server.tokens.add(self.headers.get("Authorization"))
        return path


@contextmanager
def fake_hub(monkeypatch, cache):
    """Run a hub that the hub's client takes for the real one, with an empty cache of downloads."""
    import huggingface_hub.constants as constants

    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
