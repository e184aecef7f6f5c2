"""Pages of run folders over HTTP, to this machine alone, for watching runs that are under way.

GET /                     the runs
GET /run/<digest>/        a run's page
GET /run/<digest>/data.json   its news, with an ETag
"""

import errno
import hashlib
import json
import logging
import socket
import time
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from issl_engine.layout import RECORD
from issl_engine.mistakes import Mistake
from issl_engine.report.find_runs import find_runs
from issl_engine.report.html import facts, render_page
from issl_engine.report.html_table import results_table
from issl_engine.report.page_data import page_data
from issl_engine.report.page_files import style
from issl_engine.report.run_folder import load_run

_log = logging.getLogger("issl_engine")

LOOPBACK = "127.0.0.1"
"""The only address that is listened on: a run folder can hold what others should not see."""
MOST_PORTS_TRIED = 100
INDEX_REFRESH_SECONDS = 5
HTML, JSON = "text/html; charset=utf-8", "application/json"


class RunServer(ThreadingHTTPServer):
    """Serves the runs below ``roots``; runs that begin later are found too."""

    daemon_threads = True
    names: tuple[str, ...]
    """What browsers may call this server."""

    def __init__(self, roots: list[Path], port: int) -> None:
        """``port`` 0 takes any free one. Raises Mistake for a root that is no folder, and for a port in use."""
        find_runs(roots)
        self.roots = roots
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Mistake(f"--port: port {port} is in use; {_advice(port)}") from error
            raise Mistake(f"--port: port {port} cannot be used ({error.strerror}); choose one above 1023") from error
        self.names = (f"{LOOPBACK}:{self.server_port}", f"localhost:{self.server_port}")

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"

    def runs(self) -> dict[str, Path]:
        """Digest of the folder's name → folder. Nothing but these names leads to a file."""
        return {_digest_of(folder): folder for folder in find_runs(self.roots)}


def _digest_of(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def _advice(port: int) -> str:
    for other in range(port + 1, min(port + 1 + MOST_PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, other))
            except OSError:
                continue
            return f"--port {other} is free"
    return "choose another"


class _Handler(BaseHTTPRequestHandler):
    server: RunServer
    server_version, sys_version = "issl-engine", ""

    def do_GET(self) -> None:
        try:
            self._answer()
        except ConnectionError:
            pass  # the browser has gone
        except (Mistake, OSError) as error:  # ReportError: damaged, or between two states of a run that is under way
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, HTML, _message_page(str(error)).encode())

    def _answer(self) -> None:
        # A page of elsewhere that has its own name point to this machine is not to read runs.
        if self.headers.get("Host") not in self.server.names:
            self._send(HTTPStatus.FORBIDDEN, HTML, _message_page("This address is for this machine alone.").encode())
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(HTTPStatus.OK, HTML, _index(self.server.runs()).encode())
            return
        match path.split("/"):
            case ["", "run", digest, ("" | "data.json") as what] if folder := self.server.runs().get(digest):
                self._run(folder, what)
            case _:
                self._send(HTTPStatus.NOT_FOUND, HTML, _message_page("There is no such page.").encode())

    def _run(self, folder: Path, what: str) -> None:
        if not what:
            run = load_run(folder)
            self._send(HTTPStatus.OK, HTML, render_page(run.recipe, run, live=True).encode())
            return
        body = _news(folder)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        quiet = {"ETag": tag, "X-Quiet-Seconds": f"{_quiet_seconds(folder):.0f}"}
        if self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, JSON, b"", quiet)
        else:
            self._send(HTTPStatus.OK, JSON, body, quiet)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, further: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }  # fmt: skip
        for name, value in (headers | (further or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("serve: " + format, *arguments)


def _index(runs: dict[str, Path]) -> str:
    lines = "".join(_index_line(digest, folder) for digest, folder in runs.items())
    head = "".join(
        f"<th scope=col>{title}</th>" for title in ("run", "recipe", "status", "last step", "arms", "folder")
    )
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    return _plain_page("Runs", table if runs else "<p>There is no run here yet; this page looks again by itself.</p>")


def _index_line(digest: str, folder: Path) -> str:
    link = f'<a href="/run/{digest}/">{escape(folder.name)}</a>'
    try:
        run = load_run(folder)
        steps = [step for arm in run.arms for seed in arm.seeds if (step := seed.last("step")) is not None]
        cells = [run.recipe, run.status, f"{max(steps, default=0):.0f}", ", ".join(arm.name for arm in run.arms)]
    except (Mistake, OSError) as error:
        cells = ["–", str(error), "–", "–"]
    return f"<tr><th scope=row>{link}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in [*cells, str(folder)])}</tr>"


def _news(folder: Path) -> bytes:
    """JSON: ``run`` (as page_data), ``facts``, ``table`` (HTML). Raises ReportError or OSError."""
    run = load_run(folder)
    content = {"run": page_data(run), "facts": facts(run), "table": results_table(run)}
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _quiet_seconds(folder: Path) -> float:
    """Since anything was logged there; a run that was killed outright still says that it is running."""
    written = [path.stat().st_mtime for path in (folder / RECORD, *folder.glob("*/seed*/*.json*"))]
    return max(0.0, time.time() - max(written))


def _message_page(message: str) -> str:
    return _plain_page("issl-engine", f"<p>{escape(message)}</p>")


def _plain_page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        f'\'unsafe-inline\'"><meta http-equiv="refresh" content="{INDEX_REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style()}</style></head><body><header><h1>{escape(title)}</h1></header>"
        f"<main>{body}</main></body></html>\n"
    )
