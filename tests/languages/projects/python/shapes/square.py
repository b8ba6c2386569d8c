from dataclasses import dataclass


@dataclass
class Square:
    side: float
    name = "square"

    def area(self):
        return self.side**2
