from shapes import Circle, Square
from shapes.report import describe

for shape in (Square(3), Circle(2)):
    print(describe(shape))
