from pathlib import Path

lines = Path("input.txt").read_text().splitlines()
Path("output.txt").write_text("".join(f"{number}: {line}\n" for number, line in enumerate(lines, start=1)))
print(len(lines), "lines")
