"""`dossier login` and `dossier upload *.pdf --folder X --process --wait`."""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from dossier_client.client import DossierClient
from dossier_client.http import DossierError, NotSignedIn

OK, FAILED, NOT_SIGNED_IN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 when all went well, 1 when a file failed, 2 when nobody is signed in."""
    asked = _parser().parse_args(arguments)
    problems = Console(stderr=True, highlight=False)
    try:
        return _login(asked) if asked.command == "login" else _upload(asked)
    except NotSignedIn as error:
        problems.print(f"dossier: {error.detail}", markup=False)
        return NOT_SIGNED_IN
    except DossierError as error:
        problems.print(f"dossier: {error}", markup=False)
        return FAILED
    except KeyboardInterrupt:
        problems.print("dossier: stopped; the same command goes on from here")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dossier", description="Documents to Dossier, from the command line.")
    commands = parser.add_subparsers(dest="command", required=True)
    login = commands.add_parser("login", help="sign in and keep the session")
    login.add_argument("--server", default=os.environ.get("DOSSIER_SERVER", "http://127.0.0.1:8000"))
    login.add_argument("--email", help="asked for without it; the password is asked for, or DOSSIER_PASSWORD")
    upload = commands.add_parser("upload", help="upload files; run it again to go on after a crash")
    upload.add_argument("files", nargs="+", type=Path)
    upload.add_argument("--folder", help="name of a folder, made where there is none")
    upload.add_argument("--process", action="store_true", help="have each file read once it is there")
    upload.add_argument("--wait", action="store_true", help="with --process: until it is read")
    upload.add_argument("--parallel", type=int, default=4, choices=range(1, 17), metavar="1-16")
    return parser


def _login(asked: argparse.Namespace) -> int:
    email = asked.email or input("E-mail: ")
    DossierClient.login(asked.server, email, os.environ.get("DOSSIER_PASSWORD") or getpass.getpass())
    return OK


def _upload(asked: argparse.Namespace) -> int:
    client = DossierClient.signed_in()
    folder_id = client.folder(asked.folder) if asked.folder else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        Progress(*columns, TextColumn("{task.fields[state]}"), console=Console(stderr=True)) as bars,
        ThreadPoolExecutor(asked.parallel) as threads,
    ):

        def one(path: Path) -> bool:
            bar = bars.add_task(path.name, total=None, state="")
            try:
                line, is_good = _one(client, path, folder_id, asked, bars, bar)
            except (DossierError, OSError, TimeoutError) as error:
                line, is_good = f"{path}\t-\tfailed\t{error}", False
                bars.update(bar, state="failed")
            sys.stdout.write(line + "\n")
            return is_good

        return OK if all(list(threads.map(one, asked.files))) else FAILED


def _one(
    client: DossierClient, path: Path, folder_id: str | None, asked: argparse.Namespace, bars: Progress, bar: TaskID
) -> tuple[str, bool]:
    """One line of the output, and whether all went well."""
    bars.update(bar, total=path.stat().st_size)
    document = client.upload(path, folder_id=folder_id, progress=lambda there: bars.update(bar, completed=there))
    document_id, state, error = document["document_id"], document["status"].lower(), ""
    if asked.process:
        status = client.process(document_id)
        if asked.wait:
            status = client.wait(document_id, tell=lambda percent: bars.update(bar, state=f"processing {percent} %"))
        state = status["status"].lower()
        error = status["error"]["code"] if status["error"] else ""
    bars.update(bar, state=state)
    return f"{path}\t{document_id}\t{state}\t{error}".rstrip("\t"), state != "failed"


if __name__ == "__main__":
    sys.exit(main())
