"""Runs in a test's virtual machine: takes scripts from a port, one on each line, and answers with what became of it."""

import json
import os
import subprocess

port = os.open("/dev/virtio-ports/agent", os.O_RDWR)
with os.fdopen(port, "r", closefd=False) as questions, os.fdopen(port, "w", closefd=False) as answers:
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in questions:
        question = json.loads(line)
        command = ["/bin/bash", "-c", question["script"]]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            output = process.communicate()[0]
        print(json.dumps({"status": process.returncode, "output": output[-60000:]}), file=answers, flush=True)
