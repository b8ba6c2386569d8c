"""Programs that call their caller's tools: where they wait, and the lines that go to and fro."""
