"""Make documents as a chat does: ``conversation.py URL DIRECTORY``; every turn finds the files of those before."""

import os
import sys
from pathlib import Path

import httpx2

HERE = Path(__file__).resolve().parent
TURNS = {
    "table": "Put the harvest into a spreadsheet, with sums.",
    "chart": "Draw it.",
    "letter": "Write a letter to the members, with the chart.",
    "slides": "Make slides for the meeting.",
    "report": "And one page for the notice board, as PDF.",
}
LANGUAGES = {"python": ".py", "javascript": ".js"}


def conversation(http: httpx2.Client, language: str, directory: Path) -> None:
    """Talk through all turns in one session; keep what each of them made."""
    session = "/v1/sessions/" + answer(http.post("/v1/sessions", json={"language": language})).json()["session_id"]
    data = HERE / "harvest.csv"
    answer(http.post(f"{session}/files", files={"file": (data.name, data.read_bytes(), "text/csv")}))
    for name, question in TURNS.items():
        print(f"> {question}")
        code = (HERE / language / f"{name}{LANGUAGES[language]}").read_text(encoding="utf-8")
        done = answer(http.post(f"{session}/execute", json={"code": code})).json()
        print(done["stdout"], done["stderr"], sep="", end="")
        if done["exit_code"]:
            raise SystemExit(f"{name} failed with status {done['exit_code']}")
        for path in done["files"]:
            content = answer(http.get(f"{session}/files/{path}")).content
            (directory / Path(path).name).write_bytes(content)


def answer(response: httpx2.Response) -> httpx2.Response:
    """Give a good answer back; end with what the server says against the others."""
    if response.is_error:
        raise SystemExit(f"{response.request.url}: {response.status_code} {response.text}")
    return response


def main(url: str, target: str) -> None:
    """Make the pack in each language."""
    with httpx2.Client(base_url=url, headers={"X-API-Key": os.environ["GAOLER_API_KEY"]}, timeout=120) as http:
        for language in LANGUAGES:
            directory = Path(target) / language
            directory.mkdir(parents=True, exist_ok=True)
            print(f"# {language}")
            conversation(http, language, directory)


main(*sys.argv[1:])
