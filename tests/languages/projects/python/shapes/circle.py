import math
from dataclasses import dataclass


@dataclass
class Circle:
    radius: float
    name = "circle"

    def area(self):
        return math.pi * self.radius**2
