"""A hub on this machine that answers what `huggingface_hub` asks to make a repository, commit, list and download."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by name, with the files of each commit and the commits of each branch."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, branch: str, files: Files) -> str:
        number = hashlib.sha1(repr(sorted(files.items())).encode() + branch.encode()).hexdigest()
        self.commits[name][number] = files
        self.branches[name][branch] = number
        return number

    def resolve(self, name: str, revision: str) -> str | None:
        return revision if revision in self.commits[name] else self.branches[name].get(revision)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub
    ERRORS: ClassVar[dict[str, int]] = {"RepoNotFound": 404, "RevisionNotFound": 404, "EntryNotFound": 404}

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), Content_Type="application/json")

    def _error(self, code: str) -> None:
        self._send(self.ERRORS[code], b"{}", X_Error_Code=code)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(f"{self.command} {path}")
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)/?", path)
        kind = found[2] if found else "resolve"
        found = found or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path)
        if found is None:  # a repository's main branch
            found, kind = re.fullmatch(r"/api/models/([^/]+/[^/]+)()()", path), "revision"
        if found is None or found[1] not in self.server.commits:
            return self._error("RepoNotFound")
        name, commit = found[1], self.server.resolve(found[1], found[3] or "main")
        if commit is None:
            return self._error("RevisionNotFound")
        files = self.server.commits[name][commit]
        if kind == "revision":
            return self._json(
                {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]}
            )
        if kind == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
            return self._json(entries)
        if found[4] not in files:
            return self._error("EntryNotFound")
        data = files[found[4]]
        self._send(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=commit)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(f"POST {path}")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.commits.setdefault(name, {})
            if not self.server.branches.setdefault(name, {}):
                self.server.commit(name, "main", {})
            return self._json({"url": f"{self.server.address}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path)
        if found is None:
            return self._error("RepoNotFound")
        name, branch = found[1], found[3]
        if branch not in self.server.branches[name]:
            return self._error("RevisionNotFound")
        if found[2] == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        commit = self.server.commit(
            name, branch, {**self.server.commits[name][self.server.branches[name][branch]], **added}
        )
        self._json({"commitUrl": f"{self.server.address}/{name}/commit/{commit}", "commitOid": commit, "success": True})


@contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
