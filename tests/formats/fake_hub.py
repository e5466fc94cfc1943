"""A hub on loopback: as much of its protocol as `huggingface_hub` speaks to it, and its moods."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMITS = {"main": "a" * 40, "old": "b" * 40}


class FakeHub:
    """Serves the folders below a root as ``owner/name``; keeps a log of the files it gave away.

    Parameters
    ----------
    root : Path
        Has a folder ``owner/name`` a repository.

    Attributes
    ----------
    given : list of str
        Paths of the files whose content was asked for.
    gated, cut : set of str
        Repositories that want a token, and files whose connection breaks half way.
    commits : list of str
        Messages of the commits that were made. To write wants the token "open".
    """

    def __init__(self, root):
        self.root, self.given, self.gated, self.cut = Path(root), [], set(), set()
        self.commits = []
        self.closed = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args):
                """Say nothing."""

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def do_POST(self):
                hub.receive(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        options = {"poll_interval": 0.01}  # of the wait for the end of the server
        threading.Thread(target=self.server.serve_forever, kwargs=options, daemon=True).start()

    def close(self):
        if not self.closed:
            self.closed = True
            self.server.shutdown()
            self.server.server_close()

    def answer(self, request, *, body):
        if self.closed:  # a connection that was kept open ends without an answer
            request.close_connection = True
            return None
        parts = unquote(urlsplit(request.path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repo = f"{owner}/{name}"
        folder = self.root / owner / name
        if not folder.is_dir():
            return self.refuse(request, 404, "RepoNotFound")
        if repo in self.gated and request.headers.get("Authorization") != "Bearer open":
            return self.refuse(request, 403, "GatedRepo")
        revision = rest[1] if len(rest) > 1 else "main"
        commit = COMMITS.get(revision, revision)
        if commit not in COMMITS.values():
            return self.refuse(request, 404, "RevisionNotFound")
        files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
        if api:
            answer = self.tree(files) if rest[:1] == ["tree"] else self.info(repo, commit, files)
            return self.send(request, json.dumps(answer).encode(), body)
        file = "/".join(rest[2:])
        if file not in files:
            return self.refuse(request, 404, "EntryNotFound")
        return self.send_file(request, f"{repo}/{file}", files[file].read_bytes(), commit, body)

    def receive(self, request):
        """Make a repository, or a commit in one; all files are sent with the commit."""
        if self.closed:
            request.close_connection = True
            return None
        content = request.rfile.read(int(request.headers["Content-Length"]))
        if request.headers.get("Authorization") != "Bearer open":
            return self.refuse(request, 401, "Unauthorized")
        _, kind, *rest = unquote(urlsplit(request.path).path).strip("/").split("/")
        answer = {}
        if kind == "repos":
            repo = json.loads(content)
            repo = f"{repo['organization']}/{repo['name']}"
            (self.root / repo).mkdir(parents=True, exist_ok=True)
            answer = {"url": f"{self.url}/{repo}"}
        elif kind == "models":
            repo, (action, revision) = "/".join(rest[:2]), rest[2:]
            if action == "preupload":
                files = json.loads(content)["files"]
                mode = {"uploadMode": "regular", "shouldIgnore": False}
                answer = {"files": [{"path": file["path"], **mode} for file in files]}
            else:
                self.commit(repo, map(json.loads, content.splitlines()))
                oid = COMMITS[revision]
                answer = {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid}
        return self.send(request, json.dumps(answer).encode(), body=True)

    def commit(self, repo, entries):
        for entry in entries:
            value = entry["value"]
            if entry["key"] == "header":
                self.commits.append(value["summary"])
            else:
                path = self.root / repo / value["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(value["content"]))

    @staticmethod
    def info(repo, commit, files):
        siblings = [{"rfilename": name} for name in sorted(files)]
        return {"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings}

    @staticmethod
    def tree(files):
        return [
            {
                "type": "file",
                "path": name,
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for name, file in sorted(files.items())
        ]

    def send_file(self, request, path, content, commit, body):
        if body:
            self.given.append(path)
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        if body and path in self.cut:
            self.send(request, content[: len(content) // 2], body, length=len(content), **headers)
            request.close_connection = True
        else:
            self.send(request, content, body, **headers)

    @staticmethod
    def send(request, content, body, length=None, **headers):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)

    @staticmethod
    def refuse(request, status, code):
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()
