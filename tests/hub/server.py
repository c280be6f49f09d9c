"""A Hub on the loopback interface: the routes that pushing and loading use, with what they answer, kept in memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

USER = "ada"
TOKEN = "hf_" + "AbCdEfGh12" * 3 + "WxYz"


def git_oid(content: bytes) -> str:
    """The name that git gives to a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A repository: each branch's files."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    lfs: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def sha(self, revision: str) -> str:
        listing = sorted((path, git_oid(content)) for path, content in self.branches[revision].items())
        return hashlib.sha1(repr(listing).encode()).hexdigest()


class Hub:
    """The Hub.

    Args:
        token: Who sends it is the user; everybody else is nobody.
        user: The user's name.
        organizations: Where the user may make repositories too.
    """

    def __init__(self, token: str, user: str = USER, organizations: Sequence[str] = ()) -> None:
        self.token, self.user, self.organizations = token, user, organizations
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.verified: list[str] = []
        # What a route answers in place of what it would: the end of its path, and status and body.
        self.faults: dict[str, tuple[int, dict[str, Any]]] = {}
        self.url = ""

    def environment(self) -> dict[str, str]:
        """What has a process talk to this Hub alone, as its user."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": self.token,
        }

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**28, middlewares=[self._watch])
        kind = "/api/{kind:models|datasets|spaces}/{repo:[^/]+/[^/]+}"
        add = app.router.add_route
        add("GET", "/api/whoami-v2", self.whoami)
        add("POST", "/api/repos/create", self.create)
        add("POST", "/api/validate-yaml", self.validate)
        add("GET", kind, self.info)
        add("GET", kind + "/revision/{revision}", self.info)
        add("GET", kind + "/tree/{revision}", self.tree)
        add("GET", kind + "/tree/{revision}/{path:.*}", self.tree)
        add("POST", kind + "/branch/{revision}", self.branch)
        add("POST", kind + "/preupload/{revision}", self.preupload)
        add("POST", kind + "/commit/{revision}", self.commit)
        add("POST", "/{prefix:((datasets|spaces)/)?}{repo:[^/]+/[^/]+}.git/info/lfs/objects/batch", self.batch)
        add("PUT", "/lfs/{oid}", self.put)
        add("POST", "/lfs/verify", self.verify)
        # With HEAD too, by which a file's size and etag are asked for.
        file = "/{prefix:((datasets|spaces)/)?}{repo:[^/]+/[^/]+}/resolve/{revision}/{path:.*}"
        app.router.add_get(file, self.resolve)
        return app

    @web.middleware
    async def _watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        for end, (status, body) in self.faults.items():
            if end in request.path:
                code = {"X-Error-Code": body["code"]} if "code" in body else {}
                return web.json_response(body, status=status, headers=code)
        return await handler(request)

    def _is_user(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    def _repo(self, request: web.Request, write: bool = False) -> Repo:
        if write and not self._is_user(request):
            raise web.HTTPUnauthorized(text='{"error": "Invalid credentials"}', content_type="application/json")
        kind = request.match_info.get("kind") or request.match_info["prefix"].rstrip("/") or "models"
        repo = self.repos.get((kind, request.match_info["repo"]))
        if repo is None or (repo.private and not self._is_user(request)):
            raise web.HTTPNotFound(
                headers={"X-Error-Code": "RepoNotFound"}, text="{}", content_type="application/json"
            )
        return repo

    def _files(self, request: web.Request, repo: Repo) -> tuple[str, dict[str, bytes]]:
        revision = request.match_info.get("revision", "main")
        named = {repo.sha(name): name for name in repo.branches}
        revision = named.get(revision, revision)
        if revision not in repo.branches:
            headers = {"X-Error-Code": "RevisionNotFound"}
            raise web.HTTPNotFound(headers=headers, text="{}", content_type="application/json")
        return revision, repo.branches[revision]

    async def whoami(self, request: web.Request) -> web.Response:
        if not self._is_user(request):
            return web.json_response({"error": "Invalid username or password."}, status=401)
        orgs = [{"type": "org", "name": name} for name in self.organizations]
        # The login asks for the token's own name and rights as well.
        auth = {"type": "access_token", "accessToken": {"displayName": "own", "role": "write"}}
        return web.json_response({"type": "user", "name": self.user, "orgs": orgs, "auth": auth})

    async def create(self, request: web.Request) -> web.Response:
        if not self._is_user(request):
            return web.json_response({"error": "Invalid credentials"}, status=401)
        body = await request.json()
        kind = f"{body.get('type', 'model')}s"
        repo_id = f"{body['organization'] or self.user}/{body['name']}"
        if repo_id.partition("/")[0] not in (self.user, *self.organizations):
            return web.json_response({"error": f"You don't have the rights to create in {repo_id}"}, status=403)
        prefix = "" if kind == "models" else f"{kind}/"
        answer = {"url": f"{self.url}/{prefix}{repo_id}", "name": repo_id, "id": repo_id}
        if (kind, repo_id) in self.repos:
            return web.json_response({**answer, "error": "You already created this repo"}, status=409)
        # Up to hub 0.x it is `private`, then `visibility`.
        self.repos[kind, repo_id] = Repo(private=bool(body.get("private")) or body.get("visibility") == "private")
        return web.json_response(answer)

    async def validate(self, request: web.Request) -> web.Response:
        text = (await request.json())["content"]
        data = yaml.safe_load(text.split("---")[1])
        errors = [] if isinstance(data, dict) else [{"message": "no mapping"}]
        for entry in data.get("model-index", []):
            for result in entry["results"]:
                told = {*result["task"], *result["dataset"], *result["metrics"][0]}
                errors += [] if {"type", "name", "value"} <= told else [{"message": "incomplete result"}]
        return web.json_response({"errors": errors, "warnings": []}, status=400 if errors else 200)

    async def info(self, request: web.Request) -> web.Response:
        repo = self._repo(request)
        revision, files = self._files(request, repo)
        return web.json_response(
            {
                "_id": "1",
                "id": request.match_info["repo"],
                "private": repo.private,
                "sha": repo.sha(revision),
                "siblings": [{"rfilename": name} for name in files],
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
        )

    async def tree(self, request: web.Request) -> web.Response:
        repo = self._repo(request)
        _, files = self._files(request, repo)
        folder = request.match_info.get("path", "")
        inside = {name: content for name, content in files.items() if not folder or name.startswith(f"{folder}/")}
        if folder and not inside:
            headers = {"X-Error-Code": "EntryNotFound"}
            raise web.HTTPNotFound(headers=headers, text="{}", content_type="application/json")
        return web.json_response(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": git_oid(content),
                    **(
                        {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}}
                        if name in repo.lfs
                        else {}
                    ),
                }
                for name, content in inside.items()
            ]
        )

    async def branch(self, request: web.Request) -> web.Response:
        repo = self._repo(request, write=True)
        revision = request.match_info["revision"]
        if revision in repo.branches:
            return web.json_response({"error": "Reference already exists"}, status=409)
        repo.branches[revision] = dict(repo.branches["main"])
        return web.json_response({})

    async def preupload(self, request: web.Request) -> web.Response:
        repo = self._repo(request, write=True)
        _, files = self._files(request, repo)
        answers = []
        for entry in (await request.json())["files"]:
            mode = "lfs" if entry["path"].endswith((".safetensors", ".npy")) else "regular"
            there = files.get(entry["path"])
            oid = git_oid(there) if there is not None and mode == "regular" else None
            answers.append({"path": entry["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return web.json_response({"files": answers})

    async def batch(self, request: web.Request) -> web.Response:
        self._repo(request, write=True)
        objects = []
        for entry in (await request.json())["objects"]:
            actions = {
                "upload": {"href": f"{self.url}/lfs/{entry['oid']}", "header": {}},
                "verify": {"href": f"{self.url}/lfs/verify", "header": {}},
            }
            objects.append({**entry, **({} if entry["oid"] in self.objects else {"actions": actions})})
        return web.json_response({"transfer": "basic", "objects": objects})

    async def put(self, request: web.Request) -> web.Response:
        content = await request.read()
        oid = request.match_info["oid"]
        if hashlib.sha256(content).hexdigest() != oid:
            return web.json_response({"error": "the content isn't what was announced"}, status=400)
        self.objects[oid] = content
        return web.Response(headers={"ETag": f'"{oid}"'})

    async def verify(self, request: web.Request) -> web.Response:
        body = await request.json()
        whole = body["oid"] in self.objects and len(self.objects[body["oid"]]) == body["size"]
        self.verified.append(body["oid"])
        return web.json_response({}, status=200 if whole else 400)

    async def commit(self, request: web.Request) -> web.Response:
        repo = self._repo(request, write=True)
        revision, files = self._files(request, repo)
        pull = request.query.get("create_pr") == "1"
        if pull:
            revision, files = "refs/pr/1", dict(files)
        files = dict(files)
        for line in (await request.text()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repo.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    return web.json_response({"error": f"{value['path']} was never uploaded"}, status=400)
                files[value["path"]] = self.objects[value["oid"]]
                repo.lfs.add(value["path"])
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        repo.branches[revision] = files
        prefix = "" if request.match_info["kind"] == "models" else f"{request.match_info['kind']}/"
        oid, where = repo.sha(revision), f"{self.url}/{prefix}{request.match_info['repo']}"
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{where}/commit/{oid}", "hookOutput": ""}
        return web.json_response({**answer, **({"pullRequestUrl": f"{where}/discussions/1"} if pull else {})})

    async def resolve(self, request: web.Request) -> web.Response:
        repo = self._repo(request)
        revision, files = self._files(request, repo)
        path = request.match_info["path"]
        headers = {"X-Repo-Commit": repo.sha(revision)}
        if path not in files:
            headers["X-Error-Code"] = "EntryNotFound"
            return web.Response(status=404, headers=headers)
        content = files[path]
        etag = hashlib.sha256(content).hexdigest() if path in repo.lfs else git_oid(content)
        headers |= {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        return web.Response(body=content, headers=headers, content_type="application/octet-stream")


class RunningHub:
    """The Hub in a thread of its own, for clients that block or are other processes."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self.hub.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._done.wait()
        await runner.cleanup()

    def __enter__(self) -> Hub:
        self._thread.start()
        assert self._ready.wait(10)
        return self.hub

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
