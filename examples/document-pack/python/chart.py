"""The harvest as a chart, for documents (PNG) and for the web (SVG)."""

import pandas as pd
from matplotlib import pyplot as plt

harvest = pd.read_csv("harvest.csv", index_col="crop")
axes = harvest.plot.bar(stacked=True, figsize=(8, 4.5), rot=0, color=["#8fbf6f", "#e0a030", "#a05030"])
axes.set_title("Harvest of the year")
axes.set_xlabel("")
axes.set_ylabel("kg")
plt.tight_layout()
plt.savefig("chart.png", dpi=150)
# Letters stay letters, so that the chart can be searched and read aloud.
plt.rcParams["svg.fonttype"] = "none"
plt.savefig("chart.svg")
print("chart.png, chart.svg")
