from pathlib import Path

greeting = "Grüße, 世界 🌍"
print(greeting)
print(len(greeting), "code points")
Path("grüße 世界.txt").write_text(greeting + "\n")
