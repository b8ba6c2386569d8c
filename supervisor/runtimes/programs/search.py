"""Runs in a sandbox: look for a regular expression in the files of the workspace and print what matches, as JSON lines.

What to look for comes on standard input; nothing that is printed is trusted outside.
"""

import json
import os
import re
import sys

WORKSPACE = "/mnt/data"
PRINTED_BYTES = 28_000
SHOWN = 400


def main():
    wanted = json.load(sys.stdin)
    flags = re.IGNORECASE if wanted["ignore_case"] else 0
    try:
        pattern = re.compile(wanted["pattern"] if wanted["regex"] else re.escape(wanted["pattern"]), flags)
    except (re.error, RecursionError, OverflowError) as error:
        print(json.dumps({"error": f"{error}"}))
        return
    room = PRINTED_BYTES
    found = searched = skipped = 0
    for directory, directories, names in os.walk(WORKSPACE):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                skipped += 1
                continue
            if b"\0" in data[:8192]:
                skipped += 1
                continue
            searched += 1
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                if not pattern.search(line):
                    continue
                row = json.dumps({"path": os.path.relpath(path, WORKSPACE), "line": number, "text": line.strip()[:SHOWN]})
                room -= len(row) + 1
                found += 1
                if room < 0 or found > wanted["limit"]:
                    print(json.dumps({"searched": searched, "skipped": skipped, "truncated": True}))
                    return
                print(row)
    print(json.dumps({"searched": searched, "skipped": skipped, "truncated": False}))


main()
