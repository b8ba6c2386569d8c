"""Charts that programs write, in every language that has a library for them, come back as files and as pictures."""

from __future__ import annotations

import base64
from xml.etree import ElementTree as ET

import pytest

from tests.daemon import Daemon
from tests.mcp import connected
from tests.packages.places import made, need, run
from tests.packages.png import Picture, decode

pytestmark = pytest.mark.root

JAVASCRIPT = """
const fs = require("node:fs");
const { createCanvas } = require("canvas");
const { Chart } = require("chart.js/auto");
const canvas = createCanvas(400, 300);
const data = { labels: ["a", "b"], datasets: [{ data: [3, 7], backgroundColor: "#1e78b4" }] };
new Chart(canvas, { type: "bar", data, options: { animation: false, responsive: false } });
fs.writeFileSync("chart.png", canvas.toBuffer("image/png"));
"""
R = """
library(ggplot2)
plot <- ggplot(data.frame(x = c("a", "b"), y = c(3, 7)), aes(x, y)) + geom_col(fill = "#1e78b4") + ggtitle("Größe")
ggsave("chart.png", plot, width = 4, height = 3, dpi = 100)
ggsave("chart.svg", plot, width = 4, height = 3)
ggsave("chart.pdf", plot, width = 4, height = 3)
"""
BLUE = bytes.fromhex("1e78b4")


def blue(picture: Picture) -> int:
    return sum(count for colour, count in picture.colours.items() if colour[:3] == BLUE)


@pytest.mark.usefixtures("javascript")
def test_a_chart_of_javascript_is_a_result_file(daemon: Daemon) -> None:
    picture = decode(made(daemon, run(daemon, "js", JAVASCRIPT))["chart.png"])
    assert (picture.width, picture.height) == (400, 300)
    assert picture.width * picture.height / 4 < blue(picture) < picture.width * picture.height / 2


@pytest.mark.usefixtures("r")
def test_charts_of_r_are_result_files(daemon: Daemon) -> None:
    files = made(daemon, run(daemon, "r", R))
    assert set(files) == {"chart.png", "chart.svg", "chart.pdf"}
    picture = decode(files["chart.png"])
    assert (picture.width, picture.height) == (400, 300)
    assert picture.width * picture.height / 4 < blue(picture) < picture.width * picture.height / 2
    drawing = ET.fromstring(files["chart.svg"])
    assert "Größe" in "".join(drawing.itertext())
    assert files["chart.pdf"].startswith(b"%PDF-")


@pytest.mark.usefixtures("r")
@pytest.mark.parametrize("device", ["png", "jpeg", "tiff", "svg", "pdf", "cairo_pdf"])
def test_every_device_of_r_draws_without_a_screen(daemon: Daemon, device: str) -> None:
    result = run(daemon, "r", f'{device}("plot.file")\nplot(1:9, main = "Größe", col = "red")\ninvisible(dev.off())')
    starts = {
        "png": b"\x89PNG",
        "jpeg": b"\xff\xd8",
        "tiff": b"II*\0",
        "svg": b"<?xml",
        "pdf": b"%PDF",
        "cairo_pdf": b"%PDF",
    }
    content = made(daemon, result)["plot.file"]
    assert content.startswith(starts[device])
    assert len(content) > 1500


@pytest.mark.usefixtures("javascript", "r")
@pytest.mark.parametrize(("language", "code"), [("javascript", JAVASCRIPT), ("r", R)])
async def test_a_model_sees_the_chart(daemon: Daemon, language: str, code: str) -> None:
    async with connected(daemon) as agent:
        ran = await agent.call("execute_code", language=language, code=code)
        assert [image.mime_type for image in ran.images][:1] == ["image/png"]
        assert blue(decode(base64.b64decode(ran.images[0].data))) > 10_000


@pytest.mark.usefixtures("javascript")
def test_a_drawing_becomes_a_picture(daemon: Daemon) -> None:
    code = """
const fs = require("node:fs");
const { Resvg } = require("@resvg/resvg-js");
const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="10" fill="#1e78b4"/></svg>';
fs.writeFileSync("a.png", new Resvg(svg).render().asPng());
"""
    assert blue(decode(made(daemon, run(daemon, "js", code))["a.png"])) == 400


def test_letters_of_the_east_are_drawn(daemon: Daemon, groups: frozenset[str]) -> None:
    need(groups, "fonts-cjk")
    code = """
import warnings
warnings.simplefilter("error")
import matplotlib.pyplot as plt
plt.title("東京 한국 Größe")
plt.savefig("a.png")
"""
    assert len(decode(made(daemon, run(daemon, "py", code))["a.png"]).colours) > 10
